/* UDP datagrams over loopback, to one socket that counts them.
 *
 *   datagrams DATAGRAMS PEERS RATE PAYLOAD_BYTES MESSAGES
 *
 * DATAGRAMS are sent, in turn to PEERS addresses of 127.0.0.0/8 (each a flow of its own), RATE of them a second (0: as
 * fast as they go), and never more than the receiver has room for. One line of JSON says what was done: each datagram is
 * a packet of its own (no segmentation offload), counted where it is sent and where it is received.
 *
 * Up to MESSAGES of them go into one system call, at both ends: with 128, a connected socket where there is one peer, and a
 * receiver that looks every now and then instead of being woken, what is left is the kernel's own work for a packet.
 *
 * They go in bursts, each due at a time reckoned from the start: a sleep that is too long is made up for, and only work
 * that takes too long lowers the rate. A burst that is not out when the next one is due has missed its deadline.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURSTS_A_SECOND = 1000, LOOKS_A_SECOND = 2000, MOST = 128, ROOM = 4000, LARGEST = 65536 };

static atomic_long received;
static atomic_int over;
static double receiver_cpu;
static int receiver;
static long at_once;

static double cpu_of_thread(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void sleep_until(double when)
{
	struct timespec time = { .tv_sec = when, .tv_nsec = (when - (long)when) * 1e9 };
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void *receive(void *unused)
{
	static char buffers[MOST][LARGEST];
	static struct mmsghdr messages[MOST];
	struct iovec places[MOST];
	double next = now();
	(void)unused;
	prctl(PR_SET_TIMERSLACK, 1);
	for (int one = 0; one < MOST; one++) {
		places[one] = (struct iovec){ buffers[one], LARGEST };
		messages[one].msg_hdr = (struct msghdr){ .msg_iov = &places[one], .msg_iovlen = 1 };
	}
	while (!atomic_load(&over)) {
		int count = recvmmsg(receiver, messages, at_once, MSG_DONTWAIT, NULL);
		if (count > 0)
			atomic_fetch_add(&received, count);
		if (count == at_once)
			continue;
		double time = now();
		for (next += 1.0 / LOOKS_A_SECOND; next < time;)
			next += 1.0 / LOOKS_A_SECOND;
		sleep_until(next);
	}
	receiver_cpu = cpu_of_thread();
	return NULL;
}

int main(int count, char **words)
{
	if (count != 6)
		return 2;
	long datagrams = atol(words[1]), peers = atol(words[2]), size = atol(words[4]);
	double rate = atof(words[3]);
	at_once = atol(words[5]);
	at_once = at_once < 1 ? 1 : at_once > MOST ? MOST : at_once;
	static char payload[LARGEST];
	struct sockaddr_in address = { .sin_family = AF_INET }, one_peer;
	socklen_t length = sizeof(address);
	int space = 1 << 22, sender = socket(AF_INET, SOCK_DGRAM, 0);
	pthread_t thread;
	receiver = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof(space));
	if (sender < 0 || bind(receiver, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(receiver, (struct sockaddr *)&address, &length)) {
		perror("datagrams");
		return 1;
	}
	one_peer = address;
	one_peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if ((peers == 1 && connect(sender, (struct sockaddr *)&one_peer, sizeof(one_peer))) ||
	    pthread_create(&thread, NULL, receive, NULL)) {
		perror("datagrams");
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	struct sockaddr_in targets[MOST];
	struct iovec content = { payload, size };
	struct mmsghdr messages[MOST] = {};
	for (int one = 0; one < MOST; one++) {
		targets[one] = address;
		messages[one].msg_hdr = (struct msghdr){ .msg_iov = &content, .msg_iovlen = 1 };
		if (peers > 1) {
			messages[one].msg_hdr.msg_name = &targets[one];
			messages[one].msg_hdr.msg_namelen = sizeof(address);
		}
	}
	long burst = rate > 0 ? rate / BURSTS_A_SECOND : MOST, bursts = 0, missed = 0;
	burst = burst < 1 ? 1 : burst > MOST ? MOST : burst;
	double start = now();
	for (long sent = 0, due = 0; sent < datagrams; bursts++) {
		due = datagrams - sent < burst ? datagrams : sent + burst;
		if (rate > 0)
			sleep_until(start + sent / rate);
		while (sent - atomic_load(&received) > ROOM)
			usleep(20);
		while (sent < due) {
			long count = due - sent < at_once ? due - sent : at_once;
			for (int one = 0; one < count && peers > 1; one++)
				targets[one].sin_addr.s_addr = htonl(0x7f010000u + (sent + one) % peers);
			int gone = sendmmsg(sender, messages, count, 0);
			if (gone <= 0) {
				perror("sendmmsg");
				return 1;
			}
			sent += gone;
		}
		missed += rate > 0 && now() > start + sent / rate;
	}
	double sending = now() - start, sender_cpu = cpu_of_thread();
	for (int patience = 0; atomic_load(&received) < datagrams && patience < 10000; patience++)
		usleep(100);
	double seconds = now() - start;
	atomic_store(&over, 1);
	pthread_join(thread, NULL);
	printf("{\"sent\": %ld, \"received\": %ld, \"per_second\": %.1f, \"bursts\": %ld, \"missed\": %ld, "
	       "\"sender_cpu\": %.6f, \"receiver_cpu\": %.6f, \"cpu_seconds\": %.6f, \"port\": %d}\n",
	       datagrams, atomic_load(&received), datagrams / (rate > 0 ? sending : seconds), bursts, missed, sender_cpu,
	       receiver_cpu, sender_cpu + receiver_cpu, ntohs(address.sin_port));
	return 0;
}
