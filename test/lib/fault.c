/*
 * fault.c
 *		A disk that is full and a memory that is used up, for one backend.
 *
 * Preloaded into the server by test/lib/Fault.pm, which orders a fault through
 * a file that all backends map: in which process, of which kind, and at which
 * of the calls that can have it.  The disk stays full until the order is
 * withdrawn; of memory a single request fails, since what frees and reports
 * asks for more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Smaller requests are other libraries' own, or come by the thousand. */
#define MIN_MEMORY		1024

enum
{
	MEMORY = 1,
	TEMPORARY_FILES = 2,
	TABLES = 3
};

typedef struct Order
{
	int32_t		pid;
	int32_t		kind;
	int32_t		countdown;		/* calls left until the fault */
	int32_t		fired;
} Order;

static volatile Order *order;

extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *old, size_t size);

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("SIS_FAULT_FILE");
	int			fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void	   *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(Order), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		order = map;
	close(fd);
}

static bool
is_ordered(int kind)
{
	return order != NULL && order->pid != 0 && order->kind == kind &&
		order->pid == (int32_t) getpid();
}

static bool
out_of_memory(size_t size)
{
	if (size < MIN_MEMORY || !is_ordered(MEMORY) || --order->countdown != 0)
		return false;
	order->fired++;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return out_of_memory(size) ? NULL : __libc_malloc(size);
}

void *
realloc(void *old, size_t size)
{
	return out_of_memory(size) ? NULL : __libc_realloc(old, size);
}

static bool
disk_full(int fd)
{
	char		name[64];
	char		path[1024];
	ssize_t		len;
	bool		temporary;

	if (!is_ordered(TEMPORARY_FILES) && !is_ordered(TABLES))
		return false;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	len = readlink(name, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	temporary = strstr(path, "pgsql_tmp") != NULL;
	if (strstr(path, "/base/") == NULL ||
		temporary != (order->kind == TEMPORARY_FILES) ||
		(order->countdown > 1 && order->countdown-- > 1))
		return false;
	order->fired++;
	errno = ENOSPC;
	return true;
}

ssize_t
write(int fd, const void *data, size_t size)
{
	return disk_full(fd) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return disk_full(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	return pwrite(fd, data, size, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int nparts, off_t offset)
{
	return disk_full(fd) ? -1 :
		syscall(SYS_pwritev, fd, parts, nparts, offset, 0);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int nparts, off64_t offset)
{
	return pwritev(fd, parts, nparts, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	if (disk_full(fd))
		return ENOSPC;
	return syscall(SYS_fallocate, fd, 0, offset, size) == 0 ? 0 : errno;
}

int
posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	return posix_fallocate(fd, offset, size);
}
