/* Short TCP connections over loopback, as fast as they go or at a rate: connect, request, reply, close.
 *
 *   churn PAIRS CONNECTIONS REQUEST_BYTES REPLY_BYTES [CONNECTIONS_PER_SECOND]
 *
 * PAIRS client threads, each with a server thread and a listening port of its own, make CONNECTIONS connections
 * together. One line of JSON says what was done. Clients take their source addresses from 127.1.0.0/16 in turn, so
 * that ports in TIME_WAIT never run out. The client closes first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PAIRS 64
#define MAX_BYTES 65536
#define CONNECTIONS_PER_ADDRESS 8000

struct pair {
	int listener;
	int number;
	struct sockaddr_in address;
	long connections;
};

static size_t request_bytes, reply_bytes;
static double interval; /* seconds between the connections of a pair; 0: none */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void read_all(int fd, char *buffer, size_t count)
{
	while (count) {
		ssize_t got = read(fd, buffer, count < MAX_BYTES ? count : MAX_BYTES);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fail("read");
		count -= got;
	}
}

static void write_all(int fd, const char *buffer, size_t count)
{
	while (count) {
		ssize_t put = write(fd, buffer, count < MAX_BYTES ? count : MAX_BYTES);
		if (put < 0)
			fail("write");
		count -= put;
	}
}

static void *serve(void *argument)
{
	struct pair *pair = argument;
	char buffer[MAX_BYTES] = {0};

	for (long i = 0; i < pair->connections; i++) {
		int fd = accept(pair->listener, NULL, NULL);
		if (fd < 0)
			fail("accept");
		read_all(fd, buffer, request_bytes);
		write_all(fd, buffer, reply_bytes);
		if (read(fd, buffer, 1) != 0) /* wait for the client's FIN */
			fail("end of stream");
		close(fd);
	}
	return NULL;
}

static void *connect_all(void *argument)
{
	struct pair *pair = argument;
	char buffer[MAX_BYTES] = {0};
	int on = 1;
	struct timespec begun, due;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (long i = 0; i < pair->connections; i++) {
		if (interval > 0) {
			double after = begun.tv_nsec / 1e9 + i * interval;

			due.tv_sec = begun.tv_sec + (time_t)after;
			due.tv_nsec = (after - (time_t)after) * 1e9;
			while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
				;
		}
		struct sockaddr_in source = {.sin_family = AF_INET};
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0)
			fail("socket");
		source.sin_addr.s_addr = htonl(0x7f010000 | pair->number << 10 | (i / CONNECTIONS_PER_ADDRESS % 1000 + 1));
		setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
		if (bind(fd, (struct sockaddr *)&source, sizeof source))
			fail("bind");
		if (connect(fd, (struct sockaddr *)&pair->address, sizeof pair->address))
			fail("connect");
		write_all(fd, buffer, request_bytes);
		read_all(fd, buffer, reply_bytes);
		close(fd);
	}
	return NULL;
}

int main(int count, char **arguments)
{
	static struct pair pairs[MAX_PAIRS];
	pthread_t servers[MAX_PAIRS], clients[MAX_PAIRS];
	struct timespec start, end;
	struct rusage usage;

	if (count != 5 && count != 6) {
		fprintf(stderr, "usage: %s PAIRS CONNECTIONS REQUEST_BYTES REPLY_BYTES [CONNECTIONS_PER_SECOND]\n",
			arguments[0]);
		return 2;
	}
	int number = atoi(arguments[1]);
	long connections = atol(arguments[2]);
	request_bytes = strtoul(arguments[3], NULL, 10);
	reply_bytes = strtoul(arguments[4], NULL, 10);
	if (number < 1 || number > MAX_PAIRS || connections < number) {
		fprintf(stderr, "%s: 1 to %d pairs, and at least one connection each\n", arguments[0], MAX_PAIRS);
		return 2;
	}
	if (count == 6 && atof(arguments[5]) > 0)
		interval = number / atof(arguments[5]);
	for (int i = 0; i < number; i++) {
		struct pair *pair = &pairs[i];
		socklen_t length = sizeof pair->address;

		pair->number = i;
		pair->connections = connections / number + (i < connections % number);
		pair->address.sin_family = AF_INET;
		pair->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		pair->listener = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(pair->listener, (struct sockaddr *)&pair->address, length) || listen(pair->listener, 1024))
			fail("listen");
		getsockname(pair->listener, (struct sockaddr *)&pair->address, &length);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < number; i++) {
		pthread_create(&servers[i], NULL, serve, &pairs[i]);
		pthread_create(&clients[i], NULL, connect_all, &pairs[i]);
	}
	for (int i = 0; i < number; i++) {
		pthread_join(clients[i], NULL);
		pthread_join(servers[i], NULL);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	getrusage(RUSAGE_SELF, &usage);
	double seconds = end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9;
	printf("{\"connections\": %ld, \"seconds\": %.6f, \"per_second\": %.1f, \"client_bytes\": %lu, \"server_bytes\": %lu, "
	       "\"cpu_seconds\": %.6f, \"ports\": [",
	       connections, seconds, connections / seconds, connections * request_bytes, connections * reply_bytes,
	       usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	for (int i = 0; i < number; i++)
		printf("%s%d", i ? ", " : "", ntohs(pairs[i].address.sin_port));
	printf("]}\n");
	return 0;
}
