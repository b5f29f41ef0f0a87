//! What is told of a task that panics.

use std::cell::Cell;
use std::rc::Rc;

use crate::witness::witnessed;

#[tokio::test(flavor = "local")]
async fn a_task_that_panics_is_told_of_and_no_other() {
    let count = Rc::new(Cell::new(0));
    let told = |count: &Rc<Cell<u32>>| {
        let count = Rc::clone(count);
        move || count.set(count.get() + 1)
    };
    tokio::task::spawn_local(witnessed(async {}, told(&count))).await.unwrap();
    let stopped = tokio::task::spawn_local(witnessed(std::future::pending(), told(&count)));
    tokio::task::yield_now().await;
    stopped.abort();
    assert!(stopped.await.unwrap_err().is_cancelled());
    assert_eq!(count.get(), 0);

    let task = async {
        tokio::task::yield_now().await;
        panic!("as it is meant to");
    };
    assert!(tokio::task::spawn_local(witnessed(task, told(&count))).await.unwrap_err().is_panic());
    assert_eq!(count.get(), 1);
}
