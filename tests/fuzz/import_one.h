/* What the fuzzers of the importers share: the bytes become a file, in memory where that can be, which is imported. It
 * is refused with a reason and leaves nothing, or becomes a data set that opens and is whole. */
#pragma once

#include "engine/import.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void require(bool condition)
{
        if (!condition)
                abort();
}

static inline int64_t count_files(const char *folder)
{
        DIR *d = opendir(folder);
        int64_t n = 0;

        require(d != NULL);
        for (const struct dirent *e; (e = readdir(d));)
                n += e->d_name[0] != '.';
        (void)closedir(d);
        return n;
}

static inline void check_whole(const char *path, const struct import_result *result)
{
        struct dataset *d = NULL;
        char digest[DIGEST_SIZE];

        require(dataset_open(path, &d, NULL) == 0);
        for (int s = 0; s < 2; s++)
                require(dataset_count(d, (enum split)s) == result->count[s] && result->count[s] > 0);
        require(dataset_digest(d, digest, NULL) == 0 && !strcmp(digest, result->digest));
        d = dataset_free(d);
}

/* name: of the file, by whose end the format is known; share: as in struct import. */
static inline void import_one(const char *name, const uint8_t *data, size_t size, double share)
{
        char shared[] = "/dev/shm/mulund-fuzz.XXXXXX", elsewhere[] = "/tmp/mulund-fuzz.XXXXXX";
        char *folder = mkdtemp(shared) ? shared : mkdtemp(elsewhere);
        char path[128], scratch[64], out[64];
        struct import_result result = {0};
        struct error err = {0};
        int r;

        require(folder != NULL);
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        (void)snprintf(scratch, sizeof scratch, "%s/scratch", folder);
        (void)snprintf(out, sizeof out, "%s/out.images", folder);
        FILE *f = fopen(path, "wb");

        require(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
        r = import_dataset(&(struct import){.path = path, .test_share = share, .scratch = scratch}, out, &result, &err);
        require(count_files(folder) == (r < 0 ? 1 : 2));
        if (r < 0)
                require(err.text[0] && !strpbrk(err.text, "\n\r\t"));
        else
                check_whole(out, &result);
        require(file_remove_tree(folder, NULL) == 0);
}
