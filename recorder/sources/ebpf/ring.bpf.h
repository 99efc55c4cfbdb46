/* The ring that flow records leave the kernel in, and when user space is woken.
 *
 * User space empties its rings once a second; where that may be too late it is woken: by the record that reaches the end of a
 * quarter, whether that is kept or discarded.
 *
 * Keep `struct flow` in step with records.py.
 */

enum { KIND_CLOSED = 1, KIND_ALIVE, KIND_BASELINE, KIND_LISTENER };
enum { FLAG_RESET_SENT = 1, FLAG_RESET_RECEIVED = 2, FLAG_DUPLICATE = 4, FLAG_ROLE_INFERRED = 8, FLAG_ESTABLISHED = 16,
       FLAG_AWAITS_OWNER = 32, FLAG_AWAITS_RESET = 64,
       FLAG_UNWANTED = 128 /* by its owner: kept for its other end's sake, and for its events */ };

struct flow {
    u64 sk, id, time, start, established, sent, received, cgroup;
    struct address local, remote;
    u32 segments_out, segments_in, retransmits, srtt, rtt_min, pid, uid, netns, error, sampling;
    u16 local_port, remote_port;
    u8 family, role, flags, kind, owner_source, state, protocol, reported; /* reported: it had rows before */
    char comm[16];
};

BPF_RINGBUF_OUTPUT(flows, RING_PAGES);

enum { NO_WAKE_UP = 1, WAKE_UP = 2 };

/* The flag to submit or discard with a record of so many bytes, of a ring with quarters of so many. */
static inline u64 wake_up_at(void *record, u32 bytes, u32 quarter)
{
    u32 here = 0, whole = 8 + (bytes + 7) / 8 * 8;             /* the kernel's header lies before it */
    u64 *own_address = own_addresses.lookup(&here);
    return own_address && (number_beside(record, own_address) - 8) % quarter + whole >= quarter ? WAKE_UP : NO_WAKE_UP;
}

static inline u64 wake_up_for(struct flow *slot)
{
    return wake_up_at(slot, sizeof(struct flow), RING_PAGES * 1024);
}

static inline void emit(struct flow *flow)
{
    struct flow *slot = flows.ringbuf_reserve(sizeof(struct flow));
    if (!slot) {
        count(COUNT_LOST_RING);
        return;
    }
    __builtin_memcpy(slot, flow, sizeof(struct flow));
    flows.ringbuf_submit(slot, wake_up_for(slot));
}

/* For what is not in a ring. Where this one is full, it has woken user space before. */
static inline void wake_up_now(void)
{
    struct flow *slot = flows.ringbuf_reserve(sizeof(struct flow));
    if (slot)
        flows.ringbuf_discard(slot, WAKE_UP);
}
