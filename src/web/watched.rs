//! Between a source and the daemon: shows each frame to the page in passing.

use std::sync::Arc;

use super::view::View;
use crate::daemon::shutdown::Shutdown;
use crate::source::state::StateCell;
use crate::source::{Frame, FrameSource, SourceError};

/// Passes the frames of a source on.
pub(super) struct Watched {
    pub(super) inner: Box<dyn FrameSource>,
    pub(super) view: Arc<View>,
}

impl FrameSource for Watched {
    fn origin(&self) -> &str {
        self.inner.origin()
    }

    fn every_frame_counts(&self) -> bool {
        self.inner.every_frame_counts()
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let frame = self.inner.next_frame(shutdown)?;
        if let Some(frame) = &frame {
            self.view.frame(frame, self.inner.every_frame_counts());
        }
        Ok(frame)
    }

    fn restart(&mut self) {
        self.inner.restart();
    }

    fn report_to(&mut self, state: &StateCell) {
        self.inner.report_to(state);
    }
}
