use crate::dashboard::api::answer::Done;
use crate::dashboard::api::call::{Call, change, change_seen};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::rules;
use crate::dashboard::rules::epochs::Subject;

/// Which servers may answer reads.
pub(super) fn routes() -> Table {
    Table::of("reads")
        .put(
            "group/replica-groups/X/{gid}/{addr}/{value}",
            set,
            says("Says whether a server may answer reads. Proxies learn of it with the next resync.")
                .expects("the group"),
        )
        .put(
            "group/replica-groups-all/X/{value}",
            set_all,
            says("Says whether all servers may answer reads. Proxies learn of it with the next resync."),
        )
}

async fn set(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    let member = call.switch("value")?;
    change_seen(call, Subject::Group(id), move |topology| {
        rules::replica_groups::set(topology, id, &addr, member)
    })
    .await
}

async fn set_all(call: Call) -> Result<Done, Error> {
    let member = call.switch("value")?;
    change(call.term, move |topology| {
        rules::replica_groups::set_all(topology, member)
    })
    .await
}
