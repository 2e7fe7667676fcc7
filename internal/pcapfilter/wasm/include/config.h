// What libpcap's configure would have found out, for wasm32-wasi.
#define INET6 1
#define HAVE_STRERROR_R 1
#define HAVE_POSIX_STRERROR_R 1
#define HAVE_STRTOK_R 1
#define HAVE_ASPRINTF 1
#define HAVE_VASPRINTF 1
#define HAVE_STRLCPY 1
#define HAVE_STRLCAT 1
#define HAVE_SOCKADDR_STORAGE 1
#define SIZEOF_TIME_T 8
#define HAVE_SYS_TYPES_H 1
