/* The sockets that are recorded, and the pairs of ends that are known of: tables of the programs' own, in arrays.
 *
 * The kernel's hash maps cost a lock, a copy and two calls at every insertion, which was half of the programs' time. Here a
 * key has one bucket of fifteen places that lie side by side, and beside them how many are taken: most buckets are empty, and
 * most questions are about sockets that are not in the table. A place is taken by one atomic operation and given back by
 * another. There are twice as many places as sockets are allowed for: of a table that holds that many, about one socket in a
 * thousand finds its bucket full (it is counted), of one that is half as full, fewer than one in a million.
 *
 * Where two programs meet at one socket, the kernel holds its lock. Whoever only looks on, an iterator, meets an entry
 * before it is whole or after it has ended: `sk` is written last and cleared first.
 *
 * A socket's memory is given to the next one, so its bucket is in the processor's cache. A pair of ends has a port of its own:
 * spread over the table, each would find its bucket out of the cache, which took a fifth of the programs' time. So the pairs of
 * one client and one service lie beside each other by their ports. Only a table that is full of clients which use every port
 * towards their services has full buckets then.
 */

enum { PLACES = 15, CLIENT_BUCKETS = 2 * BUCKETS, NOWHERE = 0xffffffff };

struct bucket { u64 taken, keys[PLACES]; };                    /* taken: at least so many, while one is entered or leaves */

struct socket_entry {
    u64 sk, id, start, last;
    union {
        struct { u64 established, pair; };
        struct address attempted;                              /* of ROLE_ATTEMPT: where to, and below the port */
    };
    struct owner owner;
    u8 role, flags, owner_source, unused;
    union {
        u32 sampling;                                          /* 1 in so many was recorded when this flow was chosen */
        u32 attempted_port;
    };
};

BPF_TABLE("array", u32, struct bucket, sockets, BUCKETS);      /* addresses of struct sock; 0: a free place */
BPF_TABLE("array", u32, struct socket_entry, entries, BUCKETS * PLACES);
BPF_TABLE("array", u32, struct bucket, clients, CLIENT_BUCKETS); /* pairs of connected clients */

static inline u32 bucket_of(u64 key)
{
    return ((key * 0x9e3779b97f4a7c15ull >> 32) * BUCKETS) >> 32;
}

static inline u32 find_key(struct bucket *bucket, u64 key)
{
    if (!bucket->taken)
        return NOWHERE;
    #pragma unroll
    for (u32 place = 0; place < PLACES; place++)
        if (bucket->keys[place] == key)
            return place;
    return NOWHERE;
}

static inline u32 take_place(struct bucket *bucket, u64 key)
{
    __sync_fetch_and_add(&bucket->taken, 1);
    #pragma unroll
    for (u32 place = 0; place < PLACES; place++)
        if (!bucket->keys[place] && !__sync_val_compare_and_swap(&bucket->keys[place], 0, key))
            return place;
    __sync_fetch_and_add(&bucket->taken, -1);
    return NOWHERE;
}

/* Whether it was still there. */
static inline int leave_place(struct bucket *bucket, u32 place, u64 key)
{
    if (place >= PLACES || __sync_val_compare_and_swap(&bucket->keys[place], key, 0) != key)
        return 0;
    __sync_fetch_and_add(&bucket->taken, -1);
    return 1;
}

static inline struct socket_entry *find_socket(u64 sk)
{
    u32 at = bucket_of(sk);
    struct bucket *bucket = sockets.lookup(&at);
    if (!bucket)
        return 0;
    u32 place = find_key(bucket, sk);
    if (place == NOWHERE)
        return 0;
    at = at * PLACES + place;
    return entries.lookup(&at);
}

/* Enter a socket, from `entry`, which gets its number here; 0 when there is no room. */
static inline int insert(u64 sk, struct socket_entry *entry)
{
    u64 now = entry->start ? entry->start : bpf_ktime_get_boot_ns();
    u32 at = bucket_of(sk);
    struct bucket *bucket = sockets.lookup(&at);
    if (!bucket)
        return 0;
    u32 place = find_key(bucket, sk);                          /* of a socket whose end was missed: overwritten */
    if (place == NOWHERE) {
        place = take_place(bucket, sk);
        if (place == NOWHERE) {
            count(COUNT_LOST_MAP);
            return 0;
        }
        count(COUNT_INSERTED);
    }
    at = at * PLACES + place;
    struct socket_entry *slot = entries.lookup(&at);
    if (!slot)
        return 0;
    entry->last = now;
    entry->id = (now << 8) | (bpf_get_smp_processor_id() & 0xff);
    entry->sk = 0;
    __builtin_memcpy(slot, entry, sizeof(*entry));
    entry->sk = sk;
    __sync_val_compare_and_swap(&slot->sk, 0, sk);             /* also a barrier: what is above is seen before it */
    return 1;
}

static inline void forget(u64 sk)
{
    u32 at = bucket_of(sk);
    struct bucket *bucket = sockets.lookup(&at);
    if (!bucket)
        return;
    u32 place = find_key(bucket, sk);
    if (place == NOWHERE)
        return;
    at = at * PLACES + place;
    struct socket_entry *slot = entries.lookup(&at);
    if (slot)
        slot->sk = 0;
    if (leave_place(bucket, place, sk))
        count(COUNT_DELETED);
}

static inline struct bucket *bucket_of_pair(u64 pair)
{
    u32 at = (u32)pair % CLIENT_BUCKETS;
    return clients.lookup(&at);
}

static inline int is_client(u64 pair)
{
    struct bucket *bucket = bucket_of_pair(pair);
    return bucket && find_key(bucket, pair) != NOWHERE;
}

static inline void add_client(u64 pair)
{
    struct bucket *bucket = bucket_of_pair(pair);
    if (bucket && take_place(bucket, pair) == NOWHERE)
        count(COUNT_LOST_MAP);
}

static inline void remove_client(u64 pair)
{
    struct bucket *bucket = bucket_of_pair(pair);
    if (bucket)
        leave_place(bucket, find_key(bucket, pair), pair);
}
