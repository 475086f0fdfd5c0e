/* GET /metrics: Prometheus' text, of what is known without walking anything. */
#include "api/metrics.h"

#include "api/internal.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define TEXT_BYTES_MAX ((size_t)1 << 20)

static const int64_t bounds_us[METRICS_BUCKETS] = {500,   1000,   2500,    5000,    10000,
                                                   50000, 100000, 1000000, 5000000, 30000000};

void metrics_answered(struct metrics *m, int64_t took_us)
{
        size_t i = 0;

        while (i < METRICS_BUCKETS && took_us > bounds_us[i])
                i++;
        m->times[i]++;
        m->time_us += (unsigned long long)MAX(took_us, 0);
}

/* ---- the text */

static void family(struct buf *b, const char *name, const char *type, const char *help)
{
        (void)buf_printf(b, NULL, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* labels: as they stand between the braces, or "". */
static void sample(struct buf *b, const char *name, const char *labels, double value)
{
        (void)buf_printf(b, NULL, "%s%s%s%s %.17g\n", name, *labels ? "{" : "", labels, *labels ? "}" : "", value);
}

static void single(struct buf *b, const char *name, const char *type, const char *help, double value)
{
        family(b, name, type, help);
        sample(b, name, "", value);
}

static void add_process(struct buf *b)
{
        struct rusage u = {0};
        int64_t pages = system_number("", "proc/self/statm", "");

        (void)getrusage(RUSAGE_SELF, &u);
        single(b, "process_cpu_seconds_total", "counter", "Processor time of the daemon, without its workers.",
               (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / US_PER_S);
        single(b, "process_virtual_memory_bytes", "gauge", "Address space of the daemon.",
               (double)pages * (double)sysconf(_SC_PAGESIZE));
        single(b, "process_max_resident_memory_bytes", "gauge", "The most memory that the daemon ever had.",
               (double)u.ru_maxrss * 1024);
}

static int add_jobs(struct buf *b, struct reader *reader, struct error *err)
{
        struct job_counts c;
        char labels[80];
        int r = reader_job_counts(reader, &c, err);

        if (r < 0)
                return r;
        family(b, "mulund_jobs", "gauge", "Jobs by state and kind.");
        for (int state = 0; state < JOB_STATE_N; state++)
                for (int kind = 0; kind < JOB_KIND_N; kind++) {
                        (void)snprintf(labels, sizeof labels, "state=\"%s\",kind=\"%s\"", job_state_names[state],
                                       job_kind_names[kind]);
                        sample(b, "mulund_jobs", labels, (double)c.n[state][kind]);
                }
        return 0;
}

/* Of the jobs that run, at most one a device. */
struct running {
        int64_t id, step, steps;
        double images_per_second;
};

static size_t find_running(struct reader *reader, const struct control_status *s, struct running *ret)
{
        size_t n = 0;

        for (size_t i = 0; i < s->n_devices; i++) {
                struct job_row row;
                size_t k = 0;

                while (k < n && ret[k].id != s->devices[i].job)
                        k++;
                if (!s->devices[i].job || k < n ||
                    reader_job_without(reader, s->devices[i].job, WITHOUT_CONFIG | WITHOUT_OUTCOME, &row, NULL) < 0)
                        continue;
                ret[n++] = (struct running){row.id, row.step, row.steps, row.images_per_second};
                job_row_done(&row);
        }
        return n;
}

static void add_running(struct buf *b, struct reader *reader, const struct control_status *s)
{
        static const struct {
                const char *name, *help;
        } families[] = {{"mulund_job_step", "Step of a running job."},
                        {"mulund_job_steps", "Steps that a running job is to make."},
                        {"mulund_job_images_per_second", "Speed of a running job."}};
        struct running running[CONTROL_DEVICES_MAX];
        size_t n = find_running(reader, s, running);
        char labels[40];

        for (size_t f = 0; f < ARRAY_LEN(families); f++) {
                family(b, families[f].name, "gauge", families[f].help);
                for (size_t i = 0; i < n; i++) {
                        double values[] = {(double)running[i].step, (double)running[i].steps,
                                           running[i].images_per_second};

                        (void)snprintf(labels, sizeof labels, "job=\"%lld\"", (long long)running[i].id);
                        if (!isnan(values[f]))
                                sample(b, families[f].name, labels, values[f]);
                }
        }
}

static void add_devices(struct buf *b, const struct control_status *s)
{
        static const struct {
                const char *name, *help;
        } families[] = {{"mulund_device_busy", "Whether a job runs there."},
                        {"mulund_device_out", "Whether it is out of service."},
                        {"mulund_device_memory_bytes", "Memory that it has."}};
        char labels[80];

        for (size_t f = 0; f < ARRAY_LEN(families); f++) {
                family(b, families[f].name, "gauge", families[f].help);
                for (size_t i = 0; i < s->n_devices; i++) {
                        const struct control_device *d = &s->devices[i];
                        double values[] = {d->job != 0, d->out, (double)d->memory_bytes};

                        (void)snprintf(labels, sizeof labels, "device=\"%s\",kind=\"%s\"", d->name,
                                       d->gpu ? "gpu" : "cpu");
                        sample(b, families[f].name, labels, values[f]);
                }
        }
}

static void add_requests(struct buf *b, struct metrics *m)
{
        unsigned long long n = 0;
        char labels[32];

        family(b, "mulund_http_answers_total", "counter", "Answers by the class of their status.");
        for (int class = 2; class < 6; class ++) {
                (void)snprintf(labels, sizeof labels, "status=\"%dxx\"", class);
                sample(b, "mulund_http_answers_total", labels, (double)m->answers[class]);
        }
        single(b, "mulund_http_sent_bytes_total", "counter", "Bytes of bodies that were sent.", (double)m->bytes);
        single(b, "mulund_event_streams", "gauge", "Streams of events that are open.", (double)m->streams);
        family(b, "mulund_http_seconds", "histogram", "From a request's first line until its answer is ready.");
        for (size_t i = 0; i <= METRICS_BUCKETS; i++) {
                n += m->times[i];
                if (i < METRICS_BUCKETS)
                        (void)snprintf(labels, sizeof labels, "le=\"%g\"", (double)bounds_us[i] / US_PER_S);
                else
                        (void)snprintf(labels, sizeof labels, "le=\"+Inf\"");
                sample(b, "mulund_http_seconds_bucket", labels, (double)n);
        }
        sample(b, "mulund_http_seconds_sum", "", (double)m->time_us / US_PER_S);
        sample(b, "mulund_http_seconds_count", "", (double)n);
}

void metrics_read(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct reader *reader = request_reader(r);
        struct buf b = BUF_INIT(TEXT_BYTES_MAX);
        struct control_status s;
        struct error err;
        int code;

        if (!reader)
                return;
        control->status(control, &s);
        family(&b, "mulund_build_info", "gauge", "The version.");
        sample(&b, "mulund_build_info", "version=\"" MULUND_VERSION "\"", 1);
        code = add_jobs(&b, reader, &err);
        if (code < 0) {
                buf_done(&b);
                problem_failed(r, "the jobs cannot be counted", code, &err);
                return;
        }
        add_running(&b, reader, &s);
        add_devices(&b, &s);
        single(&b, "mulund_disk_free_bytes", "gauge", "Free space of the state's disk.", (double)s.disk_free_bytes);
        single(&b, "mulund_disk_reserve_bytes", "gauge", "Below so much free space nothing starts.",
               (double)s.disk_reserve_bytes);
        single(&b, "mulund_disk_low", "gauge", "Whether that is so.", s.disk_low);
        add_requests(&b, &r->server->metrics);
        add_process(&b);
        response_text(r, "text/plain; version=0.0.4", &b);
}
