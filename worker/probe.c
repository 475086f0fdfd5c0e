#include "worker/probe.h"

#include "base/nvml.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACES_MAX 64

/* Adds what back end says of its device; its error where there is none of that index. */
static int probe_device(const char *backend, int index, json_t *devices, struct error *err)
{
        struct device_settings settings = {.index = index, .threads = 1, .plan_only = true};
        const struct kernels *k;
        struct device_info info;
        struct device *d;
        int r = kernels_find(backend, &k, err);

        if (r >= 0)
                r = k->device_open(&settings, &d, err);
        if (r < 0)
                return r;
        r = k->device_info(d, &info, err);
        (void)k->device_close(d);
        if (r < 0)
                return r;
        return json_array_append_new(devices, json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:[i,i], s:b}", "backend",
                                                        backend, "index", index, "name", info.name, "uuid", info.uuid,
                                                        "memory_total", (json_int_t)info.memory_total, "memory_free",
                                                        (json_int_t)info.memory_free, "compute", info.compute_major,
                                                        info.compute_minor, "bf16", info.bf16)) < 0
                       ? error_set(err, -ENOMEM, NULL, "out of memory")
                       : 0;
}

/* In a process of its own, which sees nothing but that GPU or instance; index: what it is called here. */
static int probe_place(const char *uuid, int index, json_t *devices, struct error *err)
{
        _cleanup_json_ json_t *found = NULL;
        int ends[2];
        pid_t child;

        if (pipe(ends) < 0)
                return error_set(err, -errno, NULL, "no pipe to look at %s: %s", uuid, strerror(errno));
        child = fork();
        if (child < 0) {
                (void)close(ends[0]);
                (void)close(ends[1]);
                return error_set(err, -errno, NULL, "no process to look at %s: %s", uuid, strerror(errno));
        }
        if (child == 0) {
                json_t *list = json_array();
                int r = setenv("CUDA_VISIBLE_DEVICES", uuid, 1) < 0 ? -ENOMEM : probe_device("cuda", 0, list, err);

                (void)json_dumpfd(r < 0 ? json_string(err->text) : json_array_get(list, 0), ends[1], JSON_ENCODE_ANY);
                _exit(0);
        }
        (void)close(ends[1]);
        found = json_loadfd(ends[0], JSON_DECODE_ANY, NULL);
        (void)close(ends[0]);
        (void)waitpid(child, NULL, 0);
        if (!json_is_object(found))
                return error_set(err, -ENODEV, NULL, "%s: %s", uuid,
                                 json_is_string(found) ? json_string_value(found) : "who looked at it ended");
        if (json_object_set_new(found, "index", json_integer(index)) < 0 || json_array_append(devices, found) < 0)
                return error_set(err, -ENOMEM, NULL, "out of memory");
        return 0;
}

/* CUDA itself shows one instance of all those of a machine, so that each is looked at alone. One that cannot be opened
 * keeps its index, so that the others are called the same with it and without. Whether all are there; else err says
 * which is not, and why. */
static bool probe_gpus(json_t *devices, struct error *err)
{
        struct error not_this;
        bool all = true;
        char places[PLACES_MAX][NVML_UUID_SIZE];
        bool divided = false;
        struct nvml nvml;
        size_t n_places = 0;
        int n = 0;

        if (!getenv("CUDA_VISIBLE_DEVICES") && nvml_open(&nvml, NULL) >= 0) { /* else it is said what is to be seen */
                n_places = nvml_places(&nvml, places, PLACES_MAX, &divided);
                nvml_close(&nvml);
        }
        if (!divided) {
                while (probe_device("cuda", n, devices, err) == 0)
                        n++;
                return n > 0;
        }
        for (size_t i = 0; i < n_places; i++)
                if (probe_place(places[i], (int)i, devices, &not_this) < 0) {
                        *err = not_this;
                        all = false;
                }
        return all;
}

int probe_devices(json_t **ret, struct error *err)
{
        _cleanup_json_ json_t *devices = json_array();
        int r = probe_device("cpu", 0, devices, err);
        bool all = r >= 0 && probe_gpus(devices, err);

        if (r < 0)
                return r;
        *ret = json_pack("{s:O, s:s*}", "devices", devices, "cuda", all ? NULL : err->text);
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "out of memory");
}
