//! The bodies of calls: a request is one message that comes in time, fits its role's limit, and finds room; its answer keeps what the
//! call was given until it has been taken.
//!
//! The length of a message stands in its first five bytes (gRPC over HTTP/2, "Length-Prefixed-Message"), so a request that is too
//! large is refused before it is received.

use super::{Given, Place, lock};
use crate::limits::Limits;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

/// A request as it comes in.
pub(super) struct Bounded {
    body: Body,
    given: Arc<Given>,
    largest: usize,
    room: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    began: Instant,
    late: Pin<Box<Sleep>>,
    /// The message's head as far as it has come, then how much of the message is missing.
    head: Vec<u8>,
    missing: Option<usize>,
    waiting: Option<(Frame<Bytes>, Place)>,
}

impl Bounded {
    pub(super) fn new(body: Body, limits: &Limits, given: Arc<Given>) -> Self {
        let (room, calls) = (Arc::clone(&limits.bodies), Arc::clone(&limits.calls));
        let (began, late) = (Instant::now(), Box::pin(sleep(PATIENCE)));
        let (head, missing, waiting) = (Vec::new(), None, None);
        Self { body, given, largest: limits.request, room, calls, began, late, head, missing, waiting }
    }

    /// Takes note of what came.
    fn weigh(&mut self, mut came: &[u8]) -> Result<(), Status> {
        let missing = match self.missing {
            Some(missing) => missing,
            None => {
                let (head, rest) = came.split_at(came.len().min(HEAD - self.head.len()));
                self.head.extend_from_slice(head);
                came = rest;
                let Ok([_, length @ ..]) = <[u8; HEAD]>::try_from(self.head.as_slice()) else { return Ok(()) };
                self.find_room(u32::from_be_bytes(length))?
            }
        };
        let left = missing.checked_sub(came.len());
        self.missing = Some(left.ok_or_else(|| Status::invalid_argument("a request is one message"))?);
        Ok(())
    }

    /// Room for a message that is announced, and time for it to come.
    fn find_room(&mut self, announced: u32) -> Result<usize, Status> {
        let (kib, length) = (self.largest >> 10, usize::try_from(announced).unwrap_or(usize::MAX));
        if length > self.largest {
            let message = format!(
                "the request has {length} bytes; a client of this role may send {kib} KiB at most. Large files come to a \
                 machine better in a package, or by a command that fetches them"
            );
            return Err(Status::out_of_range(message));
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(announced.max(LEAST)) else {
            let message = "other requests fill what the agent takes in at one time: try again when they are answered";
            return Err(Status::resource_exhausted(message));
        };
        *lock(&self.given.room) = Some(room);
        self.late.as_mut().reset(self.began + PATIENCE + Duration::from_secs(u64::from(announced / SLOWEST)));
        Ok(length)
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some((frame, mut place)) = this.waiting.take() {
                let Poll::Ready(place) = place.as_mut().poll(cx) else {
                    this.waiting = Some((frame, place));
                    return Poll::Pending;
                };
                *lock(&this.given.place) = place.ok();
                return Poll::Ready(Some(Ok(frame)));
            }
            // Once it is all there, the time counts no more.
            if this.missing != Some(0) && this.late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(Status::deadline_exceeded("the request took too long to arrive"))));
            }
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else { return Poll::Ready(None) };
            let frame = frame?;
            if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                this.weigh(data)?;
                if this.missing == Some(0) {
                    this.waiting = Some((frame, Box::pin(Arc::clone(&this.calls).acquire_owned())));
                    continue;
                }
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }
}

/// An answer as it goes out.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _given: Arc<Given>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Compressed or not, and the length.
const HEAD: usize = 5;
/// What even an empty request costs.
const LEAST: u32 = 4 << 10;
/// For a request to begin to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes in a second: a client that is slower is taken for one that does not mean to end.
const SLOWEST: u32 = 64 << 10;
