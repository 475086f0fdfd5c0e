/* cuDNN's plans for a card that is not here, from the properties that it gave of itself (an H200, cuDNN 9.19): every
 * convolution of the networks has ways in every direction, none of which may give different bits from run to run or,
 * in float32, round its factors; they have names that tell them apart, and workspaces in bounds. */
#include "kernels/cuda/recorded.h"
#include "kernels/cuda/split.h"

#include <cudnn.h>
#include <stdio.h>

static int n_bad;

static void expect(bool ok, const char *what, const struct conv_plan_shape *s)
{
        if (!ok)
                printf("FAIL %s: direction %d, %lld x %lld, %lld to %lld, type %d, tf32 %d, added %d\n", what,
                       s->direction, (long long)s->n_images, (long long)s->height, (long long)s->c_in,
                       (long long)s->c_out, s->type, s->tf32, s->accumulate);
        n_bad += !ok;
}

/* Whether a list of engines has the one of that way. */
static bool engine_in(const struct conv_plan *p, int way, const char *list)
{
        char engine[16];

        (void)snprintf(engine, sizeof engine, "%.*s,", (int)strcspn(conv_plan_name(p, way), ","),
                       conv_plan_name(p, way));
        return strstr(list, engine) != NULL;
}

static void check_names(const struct conv_plan *p, const struct conv_plan_shape *s)
{
        const int n = conv_plan_ways(p);
        bool distinct = true, named = true;

        for (int i = 0; i < n; i++) {
                named = named && strncmp(conv_plan_name(p, i), "engine", 6) == 0 && !strchr(conv_plan_name(p, i), ' ');
                for (int j = 0; j < i; j++)
                        distinct = distinct && strcmp(conv_plan_name(p, i), conv_plan_name(p, j)) != 0;
        }
        expect(named, "a way without a name", s);
        expect(distinct, "two ways of a name", s);
}

static int check_shape(struct convolver *c, const struct conv_plan_shape *s)
{
        struct conv_plan *p, *other;
        struct error err;
        int n, first;

        expect(conv_plan_new(c, s, &p, &err) == 0, "no plan", s);
        expect(p != NULL, "no way", s);
        if (!p)
                return 0;
        n = conv_plan_ways(p);
        first = conv_plan_taken(p);
        check_names(p, s);
        for (int i = 0; i < n; i++)
                if (conv_plan_take(p, i))
                        expect(conv_plan_taken(p) == i && conv_plan_workspace(p) <= (size_t)256 << 20,
                               "a workspace out of bounds", s);
        expect(conv_plan_new(c, s, &other, &err) == 0 && other && conv_plan_ways(other) == n &&
                       conv_plan_taken(other) == first && strcmp(conv_plan_name(other, 0), conv_plan_name(p, 0)) == 0,
               "other ways the second time", s);
        (void)conv_plan_free(other);
        (void)conv_plan_free(p);
        return n;
}

/* A plan that may use tf32 has engines that one of float32 has not; so has the one of the terms of float32's factors.
 */
static void check_precision(struct convolver *c, struct conv_plan_shape s)
{
        char exact[8192] = "";
        struct conv_plan_shape split;
        struct conv_plan *p;
        struct error err;
        int exact_n, extra = 0;

        s.type = DTYPE_FLOAT32;
        s.tf32 = false;
        exact_n = check_shape(c, &s);
        if (conv_plan_new(c, &s, &p, &err) < 0 || !p)
                return;
        for (int i = 0; i < exact_n && strlen(exact) + 64 < sizeof exact; i++)
                (void)snprintf(exact + strlen(exact), sizeof exact - strlen(exact), "%.*s, ",
                               (int)strcspn(conv_plan_name(p, i), ","), conv_plan_name(p, i));
        (void)conv_plan_free(p);
        split = split_shape(&s);
        expect(check_shape(c, &split) > exact_n / 2, "few ways of split factors", &split);
        s.tf32 = true;
        if (conv_plan_new(c, &s, &p, &err) < 0 || !p)
                return;
        for (int i = 0; i < conv_plan_ways(p); i++)
                extra += !engine_in(p, i, exact);
        expect(extra > 0, "tf32 adds no engine", &s);
        (void)conv_plan_free(p);
}

int main(int argc, char **argv)
{
        static const int64_t channels[][2] = {{128, 128}, {256, 128}, {64, 64}};
        static char json[4096];
        FILE *f = argc == 2 ? fopen(argv[1], "re") : NULL;
        struct convolver *c;
        struct error err;
        size_t n = f ? fread(json, 1, sizeof json - 1, f) : 0;

        if (f)
                (void)fclose(f);
        if (!n || convolver_recorded("{}", &c, &err) >= 0) {
                printf("FAIL no properties, or such as are none were taken\n");
                return 1;
        }
        if (convolver_recorded(json, &c, &err) < 0) {
                printf("skipped: cuDNN %zu does not take properties that 9.19 gave: %s\n", cudnnGetVersion(), err.text);
                return 77;
        }
        for (size_t i = 0; i < ARRAY_LEN(channels); i++)
                for (int direction = 0; direction < CONV_N_DIRECTIONS; direction++)
                        for (int add = 0; add <= (direction != CONV_BACKWARD_WEIGHTS); add++) {
                                struct conv_plan_shape s = {(enum conv_direction)direction,
                                                            128,
                                                            32,
                                                            32,
                                                            channels[i][0],
                                                            channels[i][1],
                                                            DTYPE_BF16,
                                                            add,
                                                            false};

                                expect(check_shape(c, &s) >= 4, "few ways", &s);
                                check_precision(c, s);
                                for (int i = FINISH_BIAS; !add && direction == CONV_FORWARD && i < CONV_N_FINISHES;
                                     i++) {
                                        s.finish = (enum conv_finish)i;
                                        expect(check_shape(c, &s) >= 4, "few ways that add", &s);
                                        check_precision(c, s);
                                }
                        }
        (void)convolver_free(c);
        printf("%d failures\n", n_bad);
        return n_bad > 0;
}
