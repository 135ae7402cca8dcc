//! Seats for connections, so many for each role: no role can take those of another.
//!
//! Who comes when all seats of its role are taken gets that of the connection which has been there longest without a call; if all are
//! in use, it is sent away.

use crate::limits;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use trust::{Pin, Role};

/// All seats that are taken, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Arc<Seat>>>);

/// A connection's.
#[derive(Debug)]
pub(super) struct Seat {
    role: Role,
    /// Whose key may have this seat alone.
    alone: Option<Pin>,
    calls: AtomicUsize,
    /// Dropped: the connection has to end.
    stay: Mutex<Option<oneshot::Sender<()>>>,
}

/// A seat while it is sat on.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) seat: Arc<Seat>,
    /// Ends when somebody else gets the seat.
    pub(super) leave: oneshot::Receiver<()>,
    seats: Arc<Seats>,
}

/// A call on a connection.
#[derive(Debug)]
pub struct Busy(Arc<Seat>);

impl Seats {
    /// A seat for a client of `role`, if there is one. A key that may have one `alone` gives up the seat it has, in use or not.
    pub(super) fn take(self: &Arc<Self>, role: Role, alone: Option<Pin>) -> Option<Taken> {
        let (stay, leave) = oneshot::channel();
        let seat = Arc::new(Seat { role, alone, calls: AtomicUsize::new(0), stay: Mutex::new(Some(stay)) });
        let mut seats = self.lock();
        if let Some(own) = seats.iter().position(|other| alone.is_some() && other.alone == alone) {
            drop(seats.remove(own).stay.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        if seats.iter().filter(|other| other.role == role).count() >= limits::connections(role) {
            let quiet = |other: &Arc<Seat>| other.role == role && other.calls.load(Ordering::Relaxed) == 0;
            let quiet = seats.iter().position(quiet)?;
            drop(seats.remove(quiet).stay.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        seats.push(Arc::clone(&seat));
        drop(seats);
        Some(Taken { seat, leave, seats: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.lock().retain(|other| !Arc::ptr_eq(other, &self.seat));
    }
}

impl Busy {
    pub(super) fn on(seat: &Arc<Seat>) -> Self {
        seat.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(seat))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_takes_the_seats_of_another() {
        let seats = Arc::new(Seats::default());
        let mut sit = Vec::new();
        for role in [Role::Observer, Role::Backup, Role::Operator, Role::Admin] {
            sit.extend((0..100).filter_map(|_| seats.take(role, None)));
        }
        let of = |role| seats.lock().iter().filter(|seat| seat.role == role).count();
        assert_eq!(Role::ALL.map(of), Role::ALL.map(limits::connections));
        drop(sit);
        assert!(seats.lock().is_empty());
    }

    #[test]
    fn before_the_enrolment_a_key_has_one_seat_and_keeps_nobody_out() {
        let seats = Arc::new(Seats::default());
        let (thief, owner) = (Some(Pin::of(b"thief")), Some(Pin::of(b"owner")));
        let mut all: Vec<Taken> = Vec::new();
        let mut busy = Vec::new();
        for _ in 0..100 {
            let taken = seats.take(Role::Admin, thief).unwrap();
            busy.push(Busy::on(&taken.seat));
            all.push(taken);
        }
        assert_eq!(seats.lock().len(), 1, "in use or not");
        seats.take(Role::Admin, owner).unwrap();
    }

    #[test]
    fn the_one_that_has_been_quiet_longest_leaves() {
        let seats = Arc::new(Seats::default());
        let mut sit: Vec<_> =
            (0..limits::connections(Role::Backup)).filter_map(|_| seats.take(Role::Backup, None)).collect();
        let busy = Busy::on(&sit[0].seat);
        let next = seats.take(Role::Backup, None).unwrap();
        let gone: Vec<_> = sit
            .iter_mut()
            .map(|taken| taken.leave.try_recv())
            .map(|told| told.is_err_and(|e| e == oneshot::error::TryRecvError::Closed))
            .collect();
        assert_eq!(gone, [false, true, false, false]);
        let others: Vec<_> = sit[2..].iter().chain([&next]).map(|taken| Busy::on(&taken.seat)).collect();
        assert!(seats.take(Role::Backup, None).is_none(), "all are in use");
        drop((busy, others));
        assert!(seats.take(Role::Backup, None).is_some());
    }
}
