//! The check of keys, timers, outbox, followers' positions, the redo log, and the disk.

use super::Doctor;
use crate::backend::{KeyRow, SubjectKey, Table, Write};
use crate::bootstrap::tenant_row;
use crate::due::following;
use crate::prepare::open_outbox;
use crate::redo::{REDO, entry_of};
use crate::tenants::{self, TenantState};
use crate::{LedgerError, OutboxKey, SHARDS, Shard, TenantId, TimerKey};

const PAGE: usize = 256;
/// Room that the next group of commits may need, bytes.
const GROUP_BYTES: u64 = 4 << 20;

impl Doctor<'_> {
    pub(super) fn queues(&mut self) -> Result<(), LedgerError> {
        self.tenants()?;
        self.keys()?;
        self.timers()?;
        self.outbox()?;
        self.cursors()?;
        self.redo()?;
        if self
            .core
            .outbox_held
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            self.notice(
                "the outbox",
                "is held since the store was restored: nothing leaves it",
                "look with `cairn outbox list`, then `cairn outbox release`",
            );
        }
        match self.backend.room_for(GROUP_BYTES) {
            Ok(()) => {}
            Err(LedgerError::Storage(what)) => {
                self.notice("the disk", what, "make room on the store's disk");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_tenant(&self, tenant: TenantId) -> bool {
        matches!(
            self.core.tenant(tenant),
            Ok(_) | Err(LedgerError::KeyDestroyed)
        )
    }

    /// Of a tenant that was destroyed no secret is left; of others there is one.
    fn tenants(&mut self) -> Result<(), LedgerError> {
        let list = tenants::read(self.snapshot, &self.core.root_wrap());
        let Some((list, _)) = self.read("the list of tenants", list)? else {
            return Ok(());
        };
        for tenant in list {
            let place = format!("the tenant {}", tenant.name);
            let secrets = self.snapshot.metas(&tenant_row(tenant.id))?;
            let left = secrets.iter().any(|(_, secret)| !secret.is_empty());
            match (tenant.state, left) {
                (TenantState::Destroyed, true) => self.damage_but(
                    place,
                    "was destroyed, and has secrets",
                    "destroy it again: cairn tenant destroy",
                ),
                (TenantState::Destroyed, false) => self.notice(
                    &place,
                    "was destroyed: nothing of it opens any more",
                    "none is needed; `cairn tenant prove` tells of it",
                ),
                (TenantState::Ending, _) => self.notice(
                    &place,
                    "is being destroyed, and it was cut short",
                    "go on with it: cairn tenant destroy",
                ),
                (TenantState::Active | TenantState::Suspended, false) => {
                    self.damage(place, "has no keys");
                }
                (TenantState::Active | TenantState::Suspended, true) => {}
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let page = self.snapshot.scan(Table::Key, after.as_ref(), PAGE);
            let Some(page) = self.read("the table of keys", page)? else {
                return Ok(());
            };
            let count = page.len();
            after = page.last().cloned();
            for row in page {
                if let Write::Key(key, row) = row {
                    self.report.keys += 1;
                    self.key(key, &row)?;
                }
            }
            if count < PAGE {
                return Ok(());
            }
        }
    }

    fn key(&mut self, key: SubjectKey, row: &KeyRow) -> Result<(), LedgerError> {
        let place = format!("a patient's key of tenant {}", key.tenant.0);
        let keys = match self.core.tenant(key.tenant) {
            Ok(keys) => keys,
            // Nothing opens it any more, as it should be.
            Err(LedgerError::KeyDestroyed) => return Ok(()),
            Err(_) => {
                self.damage(place, "is of a tenant that there is not");
                return Ok(());
            }
        };
        if matches!(row, KeyRow::Destroyed { .. }) {
            return Ok(());
        }
        let outcome = self.core.key_for_reading(self.backend, &keys, key, 1);
        self.read(place, outcome.map(drop))?;
        Ok(())
    }

    fn timers(&mut self) -> Result<(), LedgerError> {
        let mut from = TimerKey {
            shard: Shard(0),
            due_ms: 0,
            id: [0; 16],
        };
        loop {
            let page = self.snapshot.timers(from, u64::MAX, PAGE);
            let Some(page) = self.read("the timers", page)? else {
                return Ok(());
            };
            self.report.queued += page.len() as u64;
            for timer in &page {
                if !self.is_tenant(timer.tenant) || timer.key.shard.0 >= SHARDS {
                    self.damage(
                        format!(
                            "a timer of shard {}, due at {}",
                            timer.key.shard, timer.key.due_ms
                        ),
                        "is of a tenant or shard that there is not",
                    );
                }
            }
            let last = page.last().filter(|_| page.len() == PAGE);
            let next =
                last.and_then(|last| following(last.key.due_ms, last.key.shard, last.key.id));
            let Some((due_ms, shard, id)) = next else {
                return Ok(());
            };
            from = TimerKey { shard, due_ms, id };
        }
    }

    fn outbox(&mut self) -> Result<(), LedgerError> {
        let mut from = OutboxKey {
            shard: Shard(0),
            due_ms: 0,
            id: [0; 16],
        };
        loop {
            let page = self.snapshot.outbox(from, u64::MAX, PAGE);
            let Some(page) = self.read("the outbox", page)? else {
                return Ok(());
            };
            self.report.queued += page.len() as u64;
            for row in &page {
                let outcome = open_outbox(self.core, self.backend, row);
                if let Err(error @ (LedgerError::Damaged(_) | LedgerError::UnknownTenant(_))) =
                    outcome
                {
                    self.damage_but(
                        format!("outbox entry {}", crate::root_key::encode_hex(&row.key.id)),
                        error.to_string(),
                        "take it out with `cairn outbox discard`, or restore a backup",
                    );
                }
            }
            let last = page.last().filter(|_| page.len() == PAGE);
            let next =
                last.and_then(|last| following(last.key.due_ms, last.key.shard, last.key.id));
            let Some((due_ms, shard, id)) = next else {
                return Ok(());
            };
            from = OutboxKey { shard, due_ms, id };
        }
    }

    /// Followers stand where something is, or at the beginning.
    fn cursors(&mut self) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let page = self.snapshot.scan(Table::Cursor, after.as_ref(), PAGE);
            let Some(page) = self.read("the followers' positions", page)? else {
                return Ok(());
            };
            let count = page.len();
            after = page.last().cloned();
            for row in page {
                let Write::Cursor {
                    consumer,
                    shard,
                    at,
                } = row
                else {
                    continue;
                };
                self.report.queued += 1;
                if shard.0 >= SHARDS {
                    self.damage(
                        format!("the position of {consumer}"),
                        "is in a shard that there is not",
                    );
                } else if at > self.core.last() {
                    self.damage(
                        format!("the position of {consumer} on shard {shard}"),
                        "is beyond everything that was written, so facts would be passed over",
                    );
                }
            }
            if count < PAGE {
                return Ok(());
            }
        }
    }

    fn redo(&mut self) -> Result<(), LedgerError> {
        const WHOLE: &str = "take a whole backup: cairn backup --whole";
        let kept = (self.snapshot.meta(REDO)?).is_some_and(|value| !value.is_empty());
        let mut last = None;
        loop {
            let page = self.snapshot.redo(last.unwrap_or(0), PAGE);
            let Some(page) = self.read("the redo log", page)? else {
                return Ok(());
            };
            let count = page.len();
            for (sequence, row) in page {
                self.report.queued += 1;
                if let Err(LedgerError::Damaged(what)) = entry_of(&row) {
                    self.damage_but(format!("redo row {sequence}"), what, WHOLE);
                }
                if kept && last.is_some_and(|last| sequence != last + 1) {
                    self.damage_but(format!("redo row {sequence}"), "follows a gap", WHOLE);
                }
                last = Some(sequence);
            }
            if count < PAGE {
                return Ok(());
            }
        }
    }
}
