// The module's own functions. A module is used for one filter.
#include <config.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pcap-int.h"

#define EXPORT(name) __attribute__((export_name(name)))

static struct pcap handle;
static struct bpf_program program;

// What the compiler needs of libpcap's pcap.c, which is about devices and files.

int pcap_snapshot(pcap_t *p) { return p->snapshot; }

int pcap_datalink(pcap_t *p) { return p->linktype; }

int pcap_strcasecmp(const char *a, const char *b) { return strcasecmp(a, b); }

const char *pcap_datalink_val_to_description_or_dlt(int dlt)
{
	switch (dlt) {
	case DLT_EN10MB:
		return "Ethernet";
	case DLT_RAW:
		return "Raw IP";
	}
	return "this link type";
}

// space returns memory of the module for size bytes.
EXPORT("space") void *space(int size) { return malloc(size); }

// problem returns where libpcap writes its error, a string.
EXPORT("problem") const char *problem(void) { return handle.errbuf; }

// instructions returns the program: struct bpf_insn, in the byte order of WebAssembly (little).
EXPORT("instructions") const void *instructions(void) { return program.bf_insns; }

// compile compiles a filter for packets of a link type and returns how many instructions
// it has, -1 if there is a problem. One that libpcap leaves by longjmp ends in a trap.
EXPORT("compile") int compile(int linktype, int snapshot, const char *filter)
{
	memset(&handle, 0, sizeof handle);
	handle.snapshot = snapshot;
	handle.linktype = linktype;
	handle.activated = 1;
	if (pcap_compile(&handle, &program, filter, 1, PCAP_NETMASK_UNKNOWN) < 0)
		return -1;
	return program.bf_len;
}
