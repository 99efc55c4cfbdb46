/* Packets of DNS clients: what goes to port 53 and what comes from there, copied whole, at the sockets of every cgroup.
 *
 * Everything else leaves after its ports were looked at. IP fragments are not met here: sockets send before
 * fragmentation and receive after reassembly.
 *
 * Keep `struct dns_packet` in step with dns_records.py.
 */

enum { DNS_PORT = 53, SHORTEST_WITH_PORTS = 24 };
/* Room for packets: most are short, answers with many records are not, and a buffer of TCP may hold many segments. */
enum { DNS_SHORT = 208, DNS_LONG = 2000, DNS_LONGEST = 16384 };

struct dns_packet {
    u64 time;
    struct owner owner;                                        /* of a packet that is sent */
    u32 netns;
    u16 captured;
    u8 owner_source, sent;
    u8 bytes[];                                                /* from the IP header on */
};

BPF_RINGBUF_OUTPUT(dns_packets, DNS_RING_PAGES);

static inline void dns_owner(struct dns_packet *packet, u64 sk, u8 protocol)
{
    __builtin_memset(&packet->owner, 0, sizeof(packet->owner));
    packet->owner_source = OWNER_UNKNOWN;
    if (!packet->sent)
        return;
    if (protocol == 17) {
        if (sender_of(sk, &packet->owner))
            packet->owner_source = OWNER_SEND;
    } else {                                                   /* a TCP segment may be sent by whoever acknowledges */
        struct socket_entry *entry = find_socket(sk);
        if (entry) {
            packet->owner = entry->owner;
            packet->owner_source = entry->owner_source;
        }
    }
}

static inline int dns_capture(struct __sk_buff *skb, u8 protocol, u8 sent, const u32 room)
{
    struct bpf_sock *socket = skb->sk;
    u32 length = skb->len;
    u64 net = 0;
    if (!socket)
        return 1;
    struct dns_packet *packet = dns_packets.ringbuf_reserve(sizeof(*packet) + room);
    if (!packet) {
        count(COUNT_LOST_DNS);
        return 1;
    }
    u64 waking = wake_up_at(packet, sizeof(*packet) + room, DNS_RING_PAGES * 1024);
    if (length > room)
        length = room;
    if (length < 1 || bpf_skb_load_bytes(skb, 0, packet->bytes, length)) {
        dns_packets.ringbuf_discard(packet, waking);
        return 1;
    }
    u64 sk = number_of(socket);
    packet->time = bpf_ktime_get_boot_ns();
    packet->captured = length;
    packet->sent = sent;
    dns_owner(packet, sk, protocol);
    READ(net, sk, OFFSET_sock_common_skc_net);
    packet->netns = 0;
    READ(packet->netns, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    dns_packets.ringbuf_submit(packet, waking);
    return 1;
}

static inline int dns_packet(struct __sk_buff *skb, u8 sent)
{
    u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
    u32 offset = 0, length = skb->len, first = 0;
    u8 protocol = 0;
    if (data + SHORTEST_WITH_PORTS > end)
        return 1;
    if (data[0] >> 4 == 4) {
        protocol = data[9];
        offset = (data[0] & 15) * 4;
    } else if (data[0] >> 4 == 6) {
        protocol = data[6];
        offset = behind_options(data, end, &protocol);
    }
    if ((protocol != 17 && protocol != 6) || offset > 4096)
        return 1;
    u8 *transport = data + offset;
    if (transport + 4 > end || network_to_host(*(u16 *)(transport + (sent ? 2 : 0))) != DNS_PORT)
        return 1;
    if (protocol == 6) {                                       /* acknowledgements alone say nothing */
        if (transport + 20 > end)
            return 1;
        u8 opens = transport[13] & 2;
        if (!opens && length <= offset + (transport[12] >> 4) * 4)
            return 1;
    }
    if (length <= DNS_SHORT)
        return dns_capture(skb, protocol, sent, DNS_SHORT);
    if (length <= DNS_LONG)
        return dns_capture(skb, protocol, sent, DNS_LONG);
    return dns_capture(skb, protocol, sent, DNS_LONGEST);
}

PROGRAM(dns_received, struct __sk_buff *, skb)
{
    return dns_packet(skb, 0);
}

PROGRAM(dns_sent, struct __sk_buff *, skb)
{
    return dns_packet(skb, 1);
}
