use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, change, change_seen, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::aside;
use crate::dashboard::error::Error;
use crate::dashboard::proxies;
use crate::dashboard::rules::epochs::Subject;
use crate::dashboard::rules::{self, Refusal};
use crate::dashboard::server::ServerError;
use crate::dashboard::term::Term;
use crate::model::{GroupId, HostPort, SlotId};

/// How long a server that is to be added may take to answer.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whose epoch may be named.
const GROUP: &str = "the group";

/// Groups, their servers, and the roles of these.
pub(super) fn routes() -> Table {
    Table::of("groups")
        .put("group/create/X/{gid}", create_group, says("Creates an empty group."))
        .put(
            "group/remove/X/{gid}",
            remove_group,
            says("Removes an empty group.").expects(GROUP),
        )
        .put(
            "group/resync/X/{gid}",
            resync_group,
            says("Tells all proxies the slots of a group again."),
        )
        .put(
            "group/resync-all/X",
            resync_all,
            says("Tells all proxies all slots again."),
        )
        .put(
            "group/add/X/{gid}/{addr}",
            add_server,
            says("Appends a server to a group; the first one becomes its primary.").expects(GROUP),
        )
        .put(
            "group/add/X/{gid}/{addr}/{datacenter}",
            add_server,
            says("Appends a server to a group, and tells where it is.").expects(GROUP),
        )
        .put(
            "group/del/X/{gid}/{addr}",
            remove_server,
            says("Removes a server from its group. It keeps what it holds, and follows nobody of the group any more.")
                .expects(GROUP),
        )
        .put(
            "group/action/create/X/{addr}",
            create_action,
            says("Asks that a server be given the role that its group says.").expects(GROUP),
        )
        .put(
            "group/action/remove/X/{addr}",
            remove_action,
            says("Forgets what was asked for a server's role.").expects(GROUP),
        )
        .put(
            "v2/group/set-aside/X/{addr}",
            set_aside,
            says("Tells that a replica is about to end: its primary goes on without it, and it is not promoted.")
                .expects(GROUP),
        )
        .put(
            "v2/group/keep-primary/X/{addr}",
            keep_primary,
            says(
                "Asks that the primary of a group be given its role with the data that it has, whatever another server may have. \
                 One without data is not.",
            )
            .expects(GROUP),
        )
        .get(
            "group/info/{addr}",
            server_info,
            says("INFO of a server of the product.").answers::<BTreeMap<String, String>>(),
        )
}

async fn create_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    change(call.term, move |topology| rules::groups::create(topology, id)).await
}

async fn remove_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    change_seen(call, Subject::Group(id), move |topology| {
        rules::groups::remove(topology, id)
    })
    .await
}

async fn add_server(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    let datacenter = call.param("datacenter").to_owned();
    let term = Arc::clone(&call.term);
    let expected = call.expected(Subject::Group(id));
    // What can't be added is not logged into either.
    expected.check(&term.topology())?;
    rules::groups::add_server(&term.topology(), id, &addr, &datacenter, None)?;
    let run_id = Some(reach(&term, &addr).await?).filter(|run_id| !run_id.is_empty());
    change(term, move |topology| {
        expected.check(topology)?;
        rules::groups::add_server(topology, id, &addr, &datacenter, run_id.as_deref())
    })
    .await
}

/// The run id of a server that answers.
async fn reach(term: &Term, addr: &HostPort) -> Result<String, Error> {
    match tokio::time::timeout(REACH_TIMEOUT, term.ask(addr)).await {
        Ok(asked) => Ok(asked?.0.run_id().to_owned()),
        Err(_) => Err(ServerError::Dial {
            addr: addr.clone(),
            reason: "i/o timeout".to_owned(),
        }
        .into()),
    }
}

async fn remove_server(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    change_seen(call, Subject::Group(id), move |topology| {
        rules::groups::remove_server(topology, id, &addr)
    })
    .await
}

async fn create_action(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    let group = Subject::GroupOf(addr.clone());
    let done = change_seen(call, group, move |topology| rules::actions::create(topology, &addr)).await;
    term.actions_asked.notify_one();
    done
}

async fn remove_action(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    let (group, named) = (Subject::GroupOf(addr.clone()), addr.clone());
    let done = change_seen(call, group, move |topology| rules::actions::remove(topology, &named)).await?;
    term.observations.note_admission(&addr, None);
    Ok(done)
}

async fn keep_primary(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    let group = Subject::GroupOf(addr.clone());
    let done = change_seen(call, group, move |topology| {
        rules::actions::keep_primary(topology, &addr)
    })
    .await;
    term.actions_asked.notify_one();
    done
}

async fn set_aside(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    call.expected(Subject::GroupOf(addr.clone())).check(&term.topology())?;
    to_the_end(async move { aside::set(&term, &addr).await.map(|()| Done) }).await
}

/// `INFO` of a server of the product. Codis asks any address whatever, with the product's password.
async fn server_info(call: Call) -> Result<Json<BTreeMap<String, String>>, Error> {
    let addr = call.addr()?;
    if call.term.topology().group_of(&addr).is_none() {
        return Err(Refusal(format!("server-[{addr}] doesn't exist")).into());
    }
    let mut server = call.term.connect(&addr).await?;
    let info = server.info().await?;
    let followed = info.followed();
    let mut fields = info.into_fields();
    fields.extend(server.max_memory().await?.map(|limit| ("maxmemory".to_owned(), limit)));
    fields.extend(followed.map(|addr| ("master_addr".to_owned(), addr)));
    Ok(Json(fields))
}

async fn resync_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    rules::existing(&call.term.topology(), id)?;
    to_the_end(async move {
        let slots = rules::slots::of_group(&call.term.topology(), id);
        proxies::push_all(&call.term, slots).await?;
        mark_in_sync(&call.term, vec![id]).await
    })
    .await
}

async fn resync_all(call: Call) -> Result<Done, Error> {
    to_the_end(async move {
        let groups = call.term.topology().groups().map(|group| group.id).collect();
        proxies::push_all(&call.term, SlotId::all().collect()).await?;
        mark_in_sync(&call.term, groups).await
    })
    .await
}

/// Notes that all proxies know the servers of these groups.
///
/// # Errors
/// When that can't be stored.
pub(super) async fn mark_in_sync(term: &Term, groups: Vec<GroupId>) -> Result<Done, Error> {
    term.change(|topology| rules::groups::in_sync(topology, &groups))
        .await
        .map(|_| Done)
}
