//! The body of a call whose request is a stream: it waits for its place, and comes whole in its time and within its size.

use super::Place;
use crate::limits::Stream;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// A stream as it comes in. It keeps its place for as long as somebody reads it.
pub(super) struct Streamed<B> {
    body: B,
    /// How much may still come.
    left: usize,
    late: Pin<Box<Sleep>>,
    waiting: Option<Place>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<B> Streamed<B> {
    pub(super) fn new(body: B, limits: &Stream) -> Self {
        let waiting: Place = Box::pin(Arc::clone(&limits.place).acquire_owned());
        let late = Box::pin(sleep(limits.time));
        Self { body, left: limits.largest, late, waiting: Some(waiting), _place: None }
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Streamed<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the stream took too long to arrive"))));
        }
        if let Some(place) = &mut this.waiting {
            this._place = ready!(place.as_mut().poll(cx)).ok();
            this.waiting = None;
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame?;
        let Some(left) = this.left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
            return Poll::Ready(Some(Err(Status::out_of_range("the stream is longer than any the agent takes in"))));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::Semaphore;
    use tokio::time::Instant;
    use tonic::Code;

    /// Sends so many bytes every ten seconds, without end.
    struct Dribble(usize, Pin<Box<Sleep>>);

    impl Dribble {
        fn of(bytes: usize) -> Self {
            Self(bytes, Box::pin(sleep(Duration::ZERO)))
        }
    }

    impl Body for Dribble {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            ready!(self.1.as_mut().poll(cx));
            self.1.as_mut().reset(Instant::now() + Duration::from_secs(10));
            Poll::Ready(Some(Ok(Frame::data(vec![0; self.0].into()))))
        }
    }

    fn limits() -> Stream {
        Stream { largest: 1_000, time: Duration::from_secs(100), place: Arc::new(Semaphore::new(1)) }
    }

    /// How much comes, and why no more.
    async fn drain(stream: &mut Streamed<Dribble>) -> (usize, Code) {
        let mut came = 0;
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_frame(cx)).await.unwrap() {
                Ok(frame) => came += frame.data_ref().unwrap().len(),
                Err(status) => return (came, status.code()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_its_size_and_its_time() {
        assert_eq!(drain(&mut Streamed::new(Dribble::of(400), &limits())).await, (800, Code::OutOfRange));
        assert_eq!(drain(&mut Streamed::new(Dribble::of(1), &limits())).await, (10, Code::DeadlineExceeded));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_for_the_one_before_it() {
        let limits = limits();
        let mut first = Streamed::new(Dribble::of(400), &limits);
        let mut second = Streamed::new(Dribble::of(400), &limits);
        drain(&mut first).await;
        assert_eq!(drain(&mut second).await, (0, Code::DeadlineExceeded));
        let mut third = Streamed::new(Dribble::of(400), &limits);
        drop((first, second));
        assert_eq!(drain(&mut third).await, (800, Code::OutOfRange));
    }
}
