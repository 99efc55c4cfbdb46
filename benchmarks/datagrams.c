/* UDP datagrams over loopback, to one socket that counts them.
 *
 *   datagrams DATAGRAMS PEERS RATE PAYLOAD_BYTES
 *
 * DATAGRAMS are sent, in turn to PEERS addresses of 127.0.0.0/8 (each a flow of its own), RATE of them a second (0: as
 * fast as they go), and never more than the receiver has room for. One line of JSON says what was done.
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

enum { BURSTS_A_SECOND = 2000, MOST = 64, ROOM = 4000 };

static atomic_long received;
static int receiver;

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
	static char buffers[MOST][65536];
	struct iovec places[MOST];
	struct mmsghdr messages[MOST] = {};
	int count;
	(void)unused;
	for (int one = 0; one < MOST; one++) {
		places[one] = (struct iovec){ buffers[one], sizeof(buffers[one]) };
		messages[one].msg_hdr = (struct msghdr){ .msg_iov = &places[one], .msg_iovlen = 1 };
	}
	while ((count = recvmmsg(receiver, messages, MOST, MSG_WAITFORONE, NULL)) > 0)
		atomic_fetch_add(&received, count);
	return NULL;
}

int main(int count, char **words)
{
	if (count != 5)
		return 2;
	long datagrams = atol(words[1]), peers = atol(words[2]), size = atol(words[4]);
	double rate = atof(words[3]);
	static char payload[65536];
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int space = 1 << 22, sender = socket(AF_INET, SOCK_DGRAM, 0);
	pthread_t thread;
	receiver = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof(space));
	if (sender < 0 || bind(receiver, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(receiver, (struct sockaddr *)&address, &length) || pthread_create(&thread, NULL, receive, NULL)) {
		perror("datagrams");
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	struct sockaddr_in targets[MOST];
	struct iovec content = { payload, size };
	struct mmsghdr messages[MOST] = {};
	for (int one = 0; one < MOST; one++) {
		targets[one] = address;
		messages[one].msg_hdr = (struct msghdr){ &targets[one], sizeof(address), &content, 1, NULL, 0, 0 };
	}
	long burst = rate > 0 ? rate / BURSTS_A_SECOND : MOST, bursts = 0, missed = 0;
	burst = burst < 1 ? 1 : burst > MOST ? MOST : burst;
	double start = now();
	for (long sent = 0; sent < datagrams; bursts++) {
		long count = datagrams - sent < burst ? datagrams - sent : burst;
		if (rate > 0)
			sleep_until(start + sent / rate);
		while (sent - atomic_load(&received) > ROOM)
			usleep(20);
		for (int one = 0; one < count; one++)
			targets[one].sin_addr.s_addr = htonl(0x7f010000u + (sent + one) % peers);
		int gone = sendmmsg(sender, messages, count, 0);
		if (gone <= 0) {
			perror("sendmmsg");
			return 1;
		}
		sent += gone;
		missed += rate > 0 && now() > start + sent / rate;
	}
	double sending = now() - start;
	for (int patience = 0; atomic_load(&received) < datagrams && patience < 10000; patience++)
		usleep(100);
	double seconds = now() - start;
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"sent\": %ld, \"received\": %ld, \"per_second\": %.1f, \"bursts\": %ld, \"missed\": %ld, \"cpu_seconds\": %.6f, \"port\": %d}\n",
	       datagrams, atomic_load(&received), datagrams / (rate > 0 ? sending : seconds), bursts, missed,
	       usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 + usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6,
	       ntohs(address.sin_port));
	return 0;
}
