/* UDP datagrams over loopback, to one socket that counts them.
 *
 *   datagrams DATAGRAMS PEERS RATE PAYLOAD_BYTES
 *
 * DATAGRAMS are sent, in turn to PEERS addresses of 127.0.0.0/8 (each a flow of its own), RATE of them a second (0: as
 * fast as they go, but never more than the receiver has room for). One line of JSON says what was done.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static atomic_long received;
static int receiver;

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void *receive(void *unused)
{
	char buffer[65536];
	while (recv(receiver, buffer, sizeof(buffer), 0) > 0)
		atomic_fetch_add(&received, 1);
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
	double start = now();
	for (long sent = 0; sent < datagrams; sent++) {
		address.sin_addr.s_addr = htonl(0x7f010000u + sent % peers);
		if (sendto(sender, payload, size, 0, (struct sockaddr *)&address, sizeof(address)) != size) {
			perror("sendto");
			return 1;
		}
		while (sent - atomic_load(&received) > 1000)
			usleep(20);
		if (rate > 0 && sent % 20 == 0)
			while (now() - start < sent / rate)
				usleep(100);
	}
	for (int patience = 0; atomic_load(&received) < datagrams && patience < 1000; patience++)
		usleep(1000);
	double seconds = now() - start;
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"sent\": %ld, \"received\": %ld, \"seconds\": %.6f, \"per_second\": %.1f, \"cpu_seconds\": %.6f, \"port\": %d}\n",
	       datagrams, atomic_load(&received), seconds, datagrams / seconds,
	       usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 + usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6,
	       ntohs(address.sin_port));
	return 0;
}
