//! Random operations against a model in memory: the same answers, also after reopening.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Expected, Hit, Ledger, LedgerError, Query};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{OBSERVATION, Store, TENANT, commit_of, draft, of, ready, token_of};

const CODES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Operation {
    /// Writes some documents in one commit; `wrong` states an expectation that does not hold.
    Write {
        parts: Vec<(u8, u8, bool)>,
        wrong: bool,
    },
    Search {
        shape: Shape,
        limit: usize,
    },
    History {
        document: u8,
        before: Option<u32>,
        limit: usize,
    },
    Reopen,
    /// Rotates the keys of tokens, or goes on with that, and is cut off after so many batches.
    RotateTokens {
        cut: Option<usize>,
    },
}

/// A query over the places of codes; the tokens come when the ledger is there.
#[derive(Debug, Clone)]
enum Shape {
    Code(usize),
    And(Vec<Shape>),
    Or(Vec<Shape>),
    Without(Box<Shape>, Box<Shape>),
}

impl Shape {
    fn query(&self, ledger: &Ledger) -> Query {
        let all = |parts: &[Shape]| parts.iter().map(|part| part.query(ledger)).collect();
        match self {
            Self::Code(code) => Query::Token(token_of(ledger, CODES[*code])),
            Self::And(parts) => Query::And(all(parts)),
            Self::Or(parts) => Query::Or(all(parts)),
            Self::Without(with, without) => Query::Without(
                Box::new(with.query(ledger)),
                Box::new(without.query(ledger)),
            ),
        }
    }
    fn holds(&self, codes: u8) -> bool {
        match self {
            Self::Code(code) => codes & 1 << code != 0,
            Self::And(parts) => parts.iter().all(|part| part.holds(codes)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(codes)),
            Self::Without(with, without) => with.holds(codes) && !without.holds(codes),
        }
    }
}

/// The query whose intersections may leave out each of their parts.
fn loose(query: &Query) -> Query {
    let all = |parts: &[Query], wrap: fn(Query) -> Query| {
        parts.iter().map(|part| wrap(loose(part))).collect()
    };
    match query {
        Query::And(parts) => Query::And(all(parts, |part| Query::Maybe(Box::new(part)))),
        Query::Or(parts) => Query::Or(all(parts, |part| part)),
        // What is taken away must not be more.
        Query::Without(with, without) => Query::Without(Box::new(loose(with)), without.clone()),
        other => other.clone(),
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = (0..CODES.len()).prop_map(Shape::Code);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Shape::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Shape::Or),
            (inner.clone(), inner)
                .prop_map(|(with, without)| Shape::Without(Box::new(with), Box::new(without))),
        ]
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    let part = (0u8..12, 0u8..16, proptest::bool::weighted(0.2));
    prop_oneof![
        6 => (proptest::collection::vec(part, 1..6), proptest::bool::weighted(0.1))
            .prop_map(|(parts, wrong)| Operation::Write { parts, wrong }),
        4 => (shapes(), 1usize..20).prop_map(|(shape, limit)| Operation::Search { shape, limit }),
        2 => (0u8..12, proptest::option::of(0u32..8), 0usize..6)
            .prop_map(|(document, before, limit)| Operation::History { document, before, limit }),
        1 => Just(Operation::Reopen),
        1 => proptest::option::weighted(0.8, 0usize..6).prop_map(|cut| Operation::RotateTokens { cut }),
    ]
}

#[derive(Default)]
struct Model {
    /// Versions of each document, oldest first: place, codes (`None` when deleted), body.
    documents: BTreeMap<u8, Vec<(Hit, Option<u8>, String)>>,
}

impl Model {
    fn search(&self, shape: &Shape, limit: usize) -> Vec<Hit> {
        let newest = self
            .documents
            .values()
            .filter_map(|versions| versions.last());
        let live: BTreeSet<Hit> = newest
            .filter(|(_, codes, _)| codes.is_some_and(|codes| shape.holds(codes)))
            .map(|(at, _, _)| *at)
            .collect();
        live.into_iter().rev().take(limit).collect()
    }
}

async fn play(store: &dyn Store, operations: Vec<Operation>) {
    let mut ledger = ready(store).await;
    let mut model = Model::default();
    for (step, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Write { parts, wrong } => {
                let mut ahead: BTreeMap<u8, u32> = BTreeMap::new();
                let mut drafts = Vec::new();
                for (document, codes, deleted) in &parts {
                    let known =
                        u32::try_from(model.documents.get(document).map_or(0, Vec::len)).unwrap();
                    let version = ahead.entry(*document).or_insert(known);
                    let expected = if *version == 0 {
                        Expected::Absent
                    } else {
                        Expected::Version(*version)
                    };
                    *version += 1;
                    let names: Vec<_> = (0..CODES.len())
                        .filter(|code| codes & 1 << code != 0)
                        .map(|code| CODES[code])
                        .collect();
                    let owner = of(&format!("patient {}", document % 3));
                    let body = if *deleted {
                        String::new()
                    } else {
                        format!("{document} at {step}")
                    };
                    let mut draft = draft(
                        &ledger,
                        OBSERVATION,
                        &format!("document-{document}"),
                        owner,
                        expected,
                        &body,
                        &names,
                    );
                    draft.deleted = *deleted;
                    drafts.push(draft);
                }
                if wrong {
                    let last = drafts.last_mut().unwrap();
                    last.expected = Expected::Version(1_000);
                    let outcome = ledger.commit(commit_of(&ledger, drafts)).await;
                    assert!(matches!(outcome, Err(LedgerError::Conflict)), "{outcome:?}");
                } else {
                    let receipt = ledger.commit(commit_of(&ledger, drafts)).await.unwrap();
                    for ((document, codes, deleted), written) in
                        parts.iter().zip(&receipt.documents)
                    {
                        let body = if *deleted {
                            String::new()
                        } else {
                            format!("{document} at {step}")
                        };
                        let versions = model.documents.entry(*document).or_default();
                        versions.push((written.at, (!deleted).then_some(*codes), body));
                        assert_eq!(written.version as usize, versions.len());
                    }
                }
            }
            Operation::Search { shape, limit } => {
                let hits = ledger
                    .search(TENANT, &shape.query(&ledger), None, None, limit)
                    .await
                    .unwrap();
                assert_eq!(hits, model.search(&shape, limit), "{shape:?}");
                // What may be left out lets in more, in the same order, and nothing is lost.
                let all = model.search(&shape, usize::MAX);
                let more = loose(&shape.query(&ledger));
                let more = ledger.search(TENANT, &more, None, None, 1000).await;
                let more = more.unwrap();
                assert!(more.windows(2).all(|pair| pair[0] > pair[1]), "{shape:?}");
                let among: Vec<Hit> = (more.into_iter()).filter(|hit| all.contains(hit)).collect();
                assert_eq!(among, all, "{shape:?}");
            }
            Operation::History {
                document,
                before,
                limit,
            } => {
                let stored = ledger
                    .history(
                        TENANT,
                        OBSERVATION,
                        &format!("document-{document}"),
                        before,
                        limit,
                    )
                    .await
                    .unwrap();
                let stored: Vec<_> = stored
                    .into_iter()
                    .map(|stored| {
                        (
                            stored.version,
                            stored.at,
                            stored.deleted,
                            String::from_utf8(stored.body).unwrap(),
                        )
                    })
                    .collect();
                let versions = model
                    .documents
                    .get(&document)
                    .map_or(&[][..], Vec::as_slice);
                let expected: Vec<_> = (1u32..)
                    .zip(versions)
                    .rev_below(before)
                    .take(limit)
                    .map(|(version, (at, codes, body))| {
                        (version, *at, codes.is_none(), body.clone())
                    })
                    .collect();
                assert_eq!(stored, expected);
            }
            Operation::RotateTokens { cut: None } => {
                ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
            }
            Operation::RotateTokens { cut: Some(batches) } => {
                let told = std::sync::atomic::AtomicUsize::new(0);
                let count = |_| {
                    let _ = told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                };
                let mut rotating = Box::pin(ledger.rotate_token_keys(TENANT, &count));
                // Dropped where it stands, as when the process goes.
                std::future::poll_fn(|context| {
                    let ended = rotating.as_mut().poll(context).is_ready();
                    let is_over = told.load(std::sync::atomic::Ordering::SeqCst) >= batches;
                    if ended || is_over {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
            }
            Operation::Reopen => {
                ledger.close().await.unwrap();
                ledger = store.open();
            }
        }
    }
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    ledger.close().await.unwrap();
}

/// Newest first, below a version.
trait RevBelow: Iterator + Sized {
    fn rev_below(self, before: Option<u32>) -> std::vec::IntoIter<Self::Item>;
}

impl<'a, T: 'a, I: Iterator<Item = (u32, &'a T)>> RevBelow for I {
    fn rev_below(self, before: Option<u32>) -> std::vec::IntoIter<Self::Item> {
        let mut all: Vec<_> = self
            .filter(|(version, _)| before.is_none_or(|before| *version < before))
            .collect();
        all.reverse();
        all.into_iter()
    }
}

/// Random operations, the same answers as the model's.
// Proves: 45 CFR 164.312(c)(1)
pub(crate) fn model_agrees(store: &dyn Fn() -> Box<dyn Store>, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let outcome = runner.run(
        &proptest::collection::vec(operations(), 1..40),
        |operations| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let store = store();
            runtime.block_on(play(&*store, operations));
            Ok(())
        },
    );
    outcome.unwrap();
}
