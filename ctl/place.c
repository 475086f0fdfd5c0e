#include "ctl/place.h"

#include "base/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TOKEN_BYTES_MAX 4096

/* $VARIABLE/tail, or ~/otherwise/tail; false: neither is known. */
static bool user_path(const char *variable, const char *otherwise, const char *tail, char *ret, size_t size)
{
        const char *base = getenv(variable), *home = getenv("HOME");

        if (base && base[0] == '/')
                return snprintf(ret, size, "%s/%s", base, tail) < (int)size;
        return home && home[0] == '/' && snprintf(ret, size, "%s/%s/%s", home, otherwise, tail) < (int)size;
}

static bool is_open_socket(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && access(path, W_OK) == 0;
}

static const char *find_server(const char *option, char *path, size_t size)
{
        static const char *const of_system[] = {"/run/mulund/mulund.sock", "/var/lib/mulund/mulund.sock"};
        const char *said = getenv("MULUND_SERVER");

        if (option)
                return option;
        if (said && *said)
                return said;
        if (user_path("XDG_STATE_HOME", ".local/state", "mulund/mulund.sock", path, size) && is_open_socket(path))
                return path;
        for (size_t i = 0; i < ARRAY_LEN(of_system); i++)
                if (is_open_socket(of_system[i]))
                        return of_system[i];
        return "http://127.0.0.1:8700";
}

/* What a file of this user holds, which others must not read; "" without one. */
static int read_token_file(struct buf *b, struct error *err)
{
        char path[PATH_MAX];
        struct stat st;

        if (!user_path("XDG_CONFIG_HOME", ".config", "mulund/token", path, sizeof path) || stat(path, &st) < 0)
                return 0;
        if (st.st_mode & (S_IRWXG | S_IRWXO))
                return error_set(err, -EPERM, NULL, "others may read %s: chmod 600 it", path);
        return file_read(path, b, err);
}

int place_client(const char *option, struct client **ret, struct error *err)
{
        _cleanup_(buf_done) struct buf token = BUF_INIT(TOKEN_BYTES_MAX);
        const char *said = getenv("MULUND_TOKEN");
        char path[PATH_MAX];
        int r = said && *said ? buf_append(&token, said, strlen(said), err) : read_token_file(&token, err);

        if (r < 0)
                return r;
        if (token.data)
                token.data[strcspn(token.data, " \t\r\n")] = 0;
        return client_new(find_server(option, path, sizeof path), token.data, ret, err);
}
