//! Processor time. Not the time on the clock: on a machine that others use too, that measures the others.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds that this thread was on a processor. From the thread's own clock: /proc counts in ticks of
/// up to 10 ms, in which short work is nothing.
pub fn busy() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
