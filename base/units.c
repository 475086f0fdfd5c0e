#include "base/units.h"

#include "base/clock.h"
#include "base/macros.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The smallest first. */
struct unit {
        const char *name;
        int64_t factor;
};

static const struct unit times[] = {
        {"ms", US_PER_MS}, {"s", US_PER_S}, {"m", 60 * US_PER_S}, {"h", 3600 * US_PER_S}, {"d", 86400 * US_PER_S}};
static const struct unit sizes[] = {{"B", 1},
                                    {"KiB", (int64_t)1 << 10},
                                    {"MiB", (int64_t)1 << 20},
                                    {"GiB", (int64_t)1 << 30},
                                    {"TiB", (int64_t)1 << 40}};

static bool read_units(const struct unit *units, size_t n_units, const char *without, const char *s, int64_t *ret)
{
        size_t digits = strspn(s, "0123456789");
        const char *name = s[digits] ? s + digits : without;
        int64_t number, v;

        if (!digits || digits > 18)
                return false;
        number = strtoll(s, NULL, 10);
        for (size_t i = 0; i < n_units; i++)
                if (!strcmp(units[i].name, name) && !__builtin_mul_overflow(number, units[i].factor, &v)) {
                        *ret = v;
                        return true;
                }
        return false;
}

static const char *write_units(const struct unit *units, size_t n_units, int64_t v, char *buf)
{
        size_t i = n_units - 1;

        while (i && (v % units[i].factor || !v))
                i--;
        (void)snprintf(buf, UNITS_SIZE, "%" PRId64 "%s", v / units[i].factor, units[i].name);
        return buf;
}

bool units_time(const char *s, int64_t *ret_us)
{
        return read_units(times, ARRAY_LEN(times), "s", s, ret_us);
}

bool units_bytes(const char *s, int64_t *ret)
{
        return read_units(sizes, ARRAY_LEN(sizes), "B", s, ret);
}

const char *units_time_text(int64_t us, char buf[UNITS_SIZE])
{
        return write_units(times, ARRAY_LEN(times), us, buf);
}

const char *units_bytes_text(int64_t bytes, char buf[UNITS_SIZE])
{
        return write_units(sizes, ARRAY_LEN(sizes), bytes, buf);
}
