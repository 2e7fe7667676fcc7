// The part of POSIX's netdb.h that libpcap uses and that WASI lacks; names.c has the functions.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#define PF_UNSPEC 0
#define EAI_NONAME (-2)
#define EAI_SERVICE (-8)

struct addrinfo {
	int ai_flags, ai_family, ai_socktype, ai_protocol;
	socklen_t ai_addrlen;
	struct sockaddr *ai_addr;
	char *ai_canonname;
	struct addrinfo *ai_next;
};
struct hostent {
	char *h_addr;
};
struct netent {
	unsigned int n_net;
};
struct protoent {
	int p_proto;
};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found);
void freeaddrinfo(struct addrinfo *list);
struct hostent *gethostbyname(const char *name); // in a function that is not called, and so not linked
struct netent *getnetbyname(const char *name);
struct protoent *getprotobyname(const char *name);
