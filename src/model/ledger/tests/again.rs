//! A chain that is deleted and made again: two ledgers of one process on one store, both in use.

use super::*;

/// The store of both.
#[derive(Clone, Default)]
struct Shared(Arc<InMemory>);

impl Store for Shared {
    async fn read(&self) -> Result<(String, ModelSpend), String> {
        self.0.read().await
    }

    async fn write(&self, version: &str, book: &ModelSpend) -> Result<String, Unwritten> {
        self.0.write(version, book).await
    }

    async fn pause(&self, time: Duration) {
        self.0.pause(time).await;
    }
}

#[tokio::test]
async fn what_two_ledgers_of_one_process_spend_is_all_charged() {
    let (store, holder) = (Shared::default(), new_holder());
    let begin = || {
        let (ledger, work) = SpendLedger::new(store.clone(), holder.clone(), clock());
        tokio::spawn(work);
        ledger
    };
    let before = begin();
    let under_way = before.advance(payer("a"), LIMITS);
    let first = under_way.reserve("east", nano(20)).await.unwrap();
    let after = begin();
    let another = after.advance(payer("b"), LIMITS);
    let second = another.reserve("east", nano(30)).await.unwrap();
    assert!(charged(&after).await >= 50, "both are reserved");
    first.settle(nano(7));
    drop(under_way);
    before.flush().await;
    second.settle(nano(11));
    drop(another);
    after.flush().await;
    let book = store.read().await.unwrap().1;
    assert_eq!((book::spent(&book, noon()).diagnoses, book.open.len()), (nano(7 + 11), 0));
}
