use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// Wakes one task of this thread, however often it is rung before the task runs.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// Has the task run once more.
    pub(in crate::proxy) fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Called by the task when it runs: whether the bell was rung since.
    pub(in crate::proxy) fn answered(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.rung.replace(false)
    }
}
