// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * xskfwd: the plain forwarder that afxdp is measured against.
 *
 * Two interfaces, one queue each, one UMEM for both (XDP_SHARED_UMEM), all by Debian's libxdp with its
 * inlined ring functions. What is received on one interface is sent on the other, unchanged and without a copy.
 * It is written to be as fast as a plain program is: batches of 64, a stack of free frames, need-wakeup, a busy loop,
 * the fill ring topped up and the completion ring emptied once per batch, and system calls only when the kernel
 * asks for one. It has no more features than the loop needs; it does not count, and errors end it.
 *
 *	xskfwd IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU
 *
 * The program that redirects into the maps is attached by someone else. It writes "ready" when it forwards,
 * and ends with SIGTERM.
 *
 * cc -O2 -Wall -o xskfwd xskfwd.c -lxdp -lbpf
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <xdp/xsk.h>

/* The same as the defaults of afxdp. */
enum { FRAMES = 8192, FRAME_SIZE = 2048, RING = 2048, BATCH = 64 };

struct port {
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons completion, rx;
	struct xsk_socket *xsk;
	int fd;
};

static __u64 pool[FRAMES];
static __u32 free_frames;

static void die(const char *what, int err)
{
	fprintf(stderr, "xskfwd: %s: %s\n", what, strerror(err));
	exit(1);
}

/* refill gives the kernel as many frames as there is room for in the fill ring. */
static void refill(struct port *p)
{
	__u32 i, at, n = xsk_prod_nb_free(&p->fill, BATCH);

	if (n > free_frames)
		n = free_frames;
	if (n && xsk_ring_prod__reserve(&p->fill, n, &at) == n) {
		for (i = 0; i < n; i++)
			*xsk_ring_prod__fill_addr(&p->fill, at + i) = pool[--free_frames];
		xsk_ring_prod__submit(&p->fill, n);
	}
	if (xsk_ring_prod__needs_wakeup(&p->fill))
		recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void reclaim(struct port *p)
{
	__u32 i, at, n = xsk_ring_cons__peek(&p->completion, RING, &at);

	for (i = 0; i < n; i++)
		pool[free_frames++] = *xsk_ring_cons__comp_addr(&p->completion, at + i) & ~(__u64)(FRAME_SIZE - 1);
	if (n)
		xsk_ring_cons__release(&p->completion, n);
}

/* kick has the kernel send all of the batch: a call sends 32 packets in copy mode. */
static void kick(struct port *p)
{
	int tries;

	for (tries = 0; tries < 4 && xsk_ring_prod__needs_wakeup(&p->tx); tries++) {
		if (sendto(p->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
			return;
		if (errno != EAGAIN && errno != EBUSY && errno != ENOBUFS)
			die("sendto", errno);
		if (errno != EAGAIN)
			return;
	}
}

static void forward(struct port *in, struct port *out)
{
	__u32 i, from, to = 0, n, room;

	n = xsk_ring_cons__peek(&in->rx, BATCH, &from);
	if (!n) {
		refill(in);
		return;
	}
	room = xsk_prod_nb_free(&out->tx, n);
	if (room > n)
		room = n;
	if (room)
		xsk_ring_prod__reserve(&out->tx, room, &to);
	for (i = 0; i < n; i++) {
		const struct xdp_desc *d = xsk_ring_cons__rx_desc(&in->rx, from + i);

		if (i < room)
			*xsk_ring_prod__tx_desc(&out->tx, to + i) = *d;
		else
			pool[free_frames++] = d->addr & ~(__u64)(FRAME_SIZE - 1);
	}
	xsk_ring_cons__release(&in->rx, n);
	if (room)
		xsk_ring_prod__submit(&out->tx, room);
	refill(in);
	kick(out);
	reclaim(out);
}

static void open_port(struct port *p, struct xsk_umem *umem, const char *ifname, const char *map)
{
	struct xsk_socket_config config = {
		.rx_size = RING, .tx_size = RING,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
	};
	__u32 key = 0;
	int err, map_fd;

	err = xsk_socket__create_shared(&p->xsk, ifname, 0, umem, &p->rx, &p->tx, &p->fill, &p->completion, &config);
	if (err)
		die(ifname, -err);
	p->fd = xsk_socket__fd(p->xsk);
	while (xsk_prod_nb_free(&p->fill, RING) > 0)
		refill(p);
	map_fd = bpf_map_get_fd_by_id(atoi(map));
	if (map_fd < 0)
		die("xskmap", errno);
	err = bpf_map_update_elem(map_fd, &key, &p->fd, 0);
	if (err)
		die("xskmap", errno);
}

int main(int argc, char **argv)
{
	struct xsk_umem_config config = { .fill_size = RING, .comp_size = RING, .frame_size = FRAME_SIZE };
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	static struct port a, b;
	struct xsk_umem *umem;
	cpu_set_t cpus;
	void *memory;
	int err;

	if (argc != 6)
		die("usage: IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU", EINVAL);
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[5]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("pin to cpu", errno);
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	memory = mmap(NULL, (size_t)FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		die("umem", errno);
	while (free_frames < FRAMES) {
		pool[free_frames] = (__u64)(FRAMES - 1 - free_frames) * FRAME_SIZE;
		free_frames++;
	}
	err = xsk_umem__create(&umem, memory, (__u64)FRAMES * FRAME_SIZE, &a.fill, &a.completion, &config);
	if (err)
		die("umem", -err);
	open_port(&a, umem, argv[1], argv[2]);
	open_port(&b, umem, argv[3], argv[4]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		forward(&a, &b);
		forward(&b, &a);
	}
}
