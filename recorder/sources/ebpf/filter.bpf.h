/* Asks the filter. Only what can match no row is left out here; what passes is judged once more on the rows.
 *
 * Before this text stand struct netrec_filter_flow and the filter as four functions (kernel_filter.py): of a client that
 * connects, whose port is not chosen yet, and of a connection; each by what is known without the owner, and with him.
 */

enum { CONNECTING, CONNECTED };

#ifdef FILTER_CGROUPS
/* cgroup -> the terms that it belongs to. User space fills it; what is not in it is not decided. */
BPF_F_TABLE("hash", u64, u32, filter_cgroups, MAX_FILTER_CGROUPS, 1 /* BPF_F_NO_PREALLOC */);
#endif

static inline void filter_ends(struct netrec_filter_flow *flow, struct identity *identity, u8 protocol, u8 role)
{
    struct address *client = role == ROLE_CLIENT ? &identity->local : &identity->remote;
    struct address *server = role == ROLE_CLIENT ? &identity->remote : &identity->local;
    flow->protocol = protocol;
    flow->version = !identity->local.high && (u32)identity->local.low == 0xffff0000u ? 4 : 6;
    flow->client_ipv4 = client->low >> 32;
    flow->client_ipv6[0] = client->high;
    flow->client_ipv6[1] = client->low;
    flow->server_ipv4 = server->low >> 32;
    flow->server_ipv6[0] = server->high;
    flow->server_ipv6[1] = server->low;
    flow->client_port = role == ROLE_CLIENT ? identity->local_port : identity->remote_port;
    flow->server_port = role == ROLE_CLIENT ? identity->remote_port : identity->local_port;
}

/* By addresses, ports and protocol. */
static inline int ends_may_match(struct identity *identity, u8 protocol, u8 role, int stage)
{
    struct netrec_filter_flow flow = {};
    filter_ends(&flow, identity, protocol, role);
    return stage == CONNECTING ? filter_connecting(&flow) : filter_connected(&flow);
}

/* By all of it, where the owner will not change any more. */
static inline int owner_may_match(struct identity *identity, u8 protocol, u8 role, int stage, struct owner *owner)
{
#ifdef FILTER_OWNERS
    struct netrec_filter_flow flow = {};
    filter_ends(&flow, identity, protocol, role);
    flow.pid = owner->pid;
    flow.uid = owner->pid ? owner->uid : 0xffffffffu;
    flow.cgroup_id = owner->cgroup;
    __builtin_memcpy(flow.process_name, owner->comm, sizeof(flow.process_name));
#ifdef FILTER_CGROUPS
    if (owner->cgroup) {
        u64 cgroup = owner->cgroup;
        u32 *terms = filter_cgroups.lookup(&cgroup);
        flow.cgroup_terms = terms ? *terms : 1u << 31;
    }
#endif
    return stage == CONNECTING ? filter_connecting_owned(&flow) : filter_connected_owned(&flow);
#else
    return 1;
#endif
}

/* Where it is not known, or may be seen otherwise later, which end is the client's. */
static inline int either_may_match(struct identity *identity, u8 protocol, u8 role)
{
    return (role != ROLE_SERVER && ends_may_match(identity, protocol, ROLE_CLIENT, CONNECTED))
        || (role != ROLE_CLIENT && ends_may_match(identity, protocol, ROLE_SERVER, CONNECTED));
}
