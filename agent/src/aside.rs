//! Work that looks at many files, beside the one thread that serves.

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Does `work` on a thread of its own, so that whoever else is served need not wait for its files. When nobody waits for it any more,
/// it ends where it next awaits something.
///
/// # Panics
/// When the work does.
pub async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (waits, gone) = oneshot::channel::<()>();
    let runtime = Handle::current();
    // Dropped with this future: what has not begun by then never does.
    let mut thread = JoinSet::new();
    thread.spawn_blocking(move || {
        runtime.block_on(async {
            // Whoever is cancelled here is done with.
            tokio::select! { done = work => Some(done), _ = gone => None }
        })
    });
    let done = thread.join_next().await;
    drop(waits);
    match done {
        Some(Ok(Some(done))) => done,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The program ends.
        Some(Ok(None) | Err(_)) | None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, mpsc};

    #[tokio::test]
    async fn the_thread_that_serves_goes_on() {
        let (tell, told) = mpsc::channel();
        let waits = aside(async move { told.recv().unwrap() });
        // On one thread this would wait for ever.
        let serves = async move { tell.send(7).unwrap() };
        assert_eq!(tokio::join!(waits, serves).0, 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_ends() {
        let (steps, (ended, mut end)) = (Arc::new(AtomicU32::new(0)), tokio::sync::mpsc::channel::<()>(1));
        let counts = Arc::clone(&steps);
        let work = aside(async move {
            let _ended = ended;
            loop {
                counts.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let begun = async {
            while steps.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { () = work => {}, () = begun => {} }
        assert_eq!(end.recv().await, None, "the work was dropped");
    }
}
