//! The routes, a file for each subject.

mod figures;
mod group;
mod mirror;
mod promotion;
mod proxy;
mod replica_groups;
mod sentinels;
mod slot_action;
mod slots;
mod status;
mod topom;

use super::table::Table;

/// All routes.
pub(crate) fn table() -> Table {
    Table::of("all")
        .merge(topom::routes())
        .merge(group::routes())
        .merge(proxy::routes())
        .merge(slots::routes())
        .merge(promotion::routes())
        .merge(status::routes())
        .merge(mirror::routes())
        .merge(figures::routes())
        .merge(slot_action::routes())
        .merge(replica_groups::routes())
        .merge(sentinels::routes())
}
