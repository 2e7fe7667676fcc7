// Names are resolved by the program that runs the module: see filter.go.
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("sluice"), import_name(name)))

// host writes the addresses of a name to out, each as its length (4 or 16) and 16
// bytes, and returns how many they are.
IMPORT("host") int host(const char *name, int length, unsigned char *out, int most);

// service returns the port of a service of TCP or UDP, -1 if there is none.
IMPORT("service") int service(const char *name, int length, int udp);

// protocol returns the number of an IP protocol, -1 if there is none.
IMPORT("protocol") int protocol(const char *name, int length);

enum { most_addresses = 64, entry = 17 };

// answer is memory that nobody gives back: a module compiles one filter.
static struct addrinfo *answer(int family, const void *address, int port, struct addrinfo *next)
{
	struct addrinfo *info = calloc(1, sizeof *info);
	info->ai_family = family;
	info->ai_next = next;
	if (family == AF_INET) {
		struct sockaddr_in *four = calloc(1, sizeof *four);
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, address, 4);
		info->ai_addr = (struct sockaddr *)four;
		info->ai_addrlen = sizeof *four;
	} else {
		struct sockaddr_in6 *six = calloc(1, sizeof *six);
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		memcpy(&six->sin6_addr, address, 16);
		info->ai_addr = (struct sockaddr *)six;
		info->ai_addrlen = sizeof *six;
	}
	return info;
}

int getaddrinfo(const char *node, const char *name, const struct addrinfo *hints, struct addrinfo **found)
{
	static unsigned char addresses[most_addresses * entry];
	*found = NULL;
	if (node == NULL) {
		int port = service(name, strlen(name), hints->ai_protocol == IPPROTO_UDP);
		if (port < 0)
			return EAI_SERVICE;
		*found = answer(AF_INET, "\0\0\0", port, NULL);
		return 0;
	}
	for (int n = host(node, strlen(node), addresses, most_addresses); n > 0; n--) {
		const unsigned char *at = addresses + (n - 1) * entry;
		*found = answer(at[0] == 4 ? AF_INET : AF_INET6, at + 1, 0, *found);
	}
	return *found != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list) { (void)list; }

struct netent *getnetbyname(const char *name)
{
	(void)name;
	return NULL;
}

struct protoent *getprotobyname(const char *name)
{
	static struct protoent found;
	found.p_proto = protocol(name, strlen(name));
	return found.p_proto >= 0 ? &found : NULL;
}
