//! Answers that many want at one time and that stay good for a moment: who comes first asks for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// What this process was told lately, by what was asked.
#[derive(Debug)]
pub(crate) struct Lately<K, V>(Mutex<HashMap<K, Told<V>>>);

/// When it was asked, and the answer, which all who want it wait for.
type Told<V> = (Instant, Arc<OnceCell<V>>);

impl<K, V> Default for Lately<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Lately<K, V> {
    /// The answer that was asked for within `life`, or else what `ask` comes to, which is not begun where it is not needed. An error is nobody else's.
    pub(crate) async fn told<E>(
        &self,
        key: K,
        life: Duration,
        ask: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let told = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, (asked, _)| asked.elapsed() < life);
            let fresh = || (Instant::now(), Arc::default());
            Arc::clone(&all.entry(key).or_insert_with(fresh).1)
        };
        told.get_or_try_init(|| ask).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_asks_for_all_and_an_answer_grows_old() {
        let lately = Lately::default();
        let ask = async |key, answer: Result<u8, ()>| {
            lately
                .told(key, LIFE, async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    answer
                })
                .await
        };
        assert_eq!(ask("a", Err(())).await, Err(()), "nobody else's");
        assert_eq!(tokio::join!(ask("a", Ok(1)), ask("a", Ok(2)), ask("b", Ok(3))), (Ok(1), Ok(1), Ok(3)));
        tokio::time::sleep(LIFE).await;
        assert_eq!(ask("a", Ok(4)).await, Ok(4));
    }
}
