/* A command: its row in the table, its options, what it prints. */
#pragma once

#include "ctl/client.h"

#include <limits.h>

#define REPEATED_MAX 64

enum option_id {
#define O(id, name, letter, argument, commands, help) OPTION_##id,
#include "ctl/options.def"
#undef O
        OPTION_N
};

struct call {
        struct client *client;
        const char *options[OPTION_N]; /* the last one given; "" for one without an argument; NULL: not given */
        const char *sets[REPEATED_MAX], *tags[REPEATED_MAX], *afters[REPEATED_MAX], *configs[REPEATED_MAX];
        size_t n_sets, n_tags, n_afters, n_configs;
        char **args; /* behind the command's name */
        int n_args;
};

/* Exit codes: 0; 1 the server or the job said no; 2 used wrongly; 3 nobody answers. */
enum { EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_ALONE };

typedef int command_run(struct call *c);
command_run command_pause, command_set, command_events, command_why, command_submit, command_list, command_show,
        command_watch, command_log, command_cancel, command_resume, command_retry, command_remove, command_stop,
        command_configs, command_datasets, command_dataset, command_device, command_export, command_checkpoint,
        command_import, command_token, command_open, command_audit, command_series, command_artifacts, command_get,
        command_backup, command_restore, command_doctor, command_webhook;

/* The server's answer, or an error that was printed (negative). */
int ask(struct call *c, const char *method, const char *path, const json_t *body, struct reply *ret);

int usage_error(const char *fmt, ...) _printf_(1, 2);
int fail(const char *fmt, ...) _printf_(1, 2);

/* Where -o's file is to be: itself or, of a link, what that leads to, so that the link stays. 0; -ENXIO: it is a pipe
 * or a device, which nothing may take the place of; an exit code: a folder, as was printed. */
int find_output(const char *output, char ret[PATH_MAX]);

/* A job's id from an argument; 0 and a printed usage error when it is none. */
int64_t job_id(const char *s);

/* Whether an argument can be the name of something that the server has, as it stands in a URL; else a usage error that
 * was printed. what: "a device". */
bool is_name(const char *s, const char *what);

/* A path of this machine, which may be the server's, as the server is told it; NULL and a printed error. */
json_t *absolute_path(const char *path);

void print_json(const json_t *v);

/* What the options say of a job, into the body: name, tags, notes, priority, limits, whom it waits for. A printed usage
 * error otherwise. */
int add_members(struct call *c, json_t *body);
/* Whether they say anything of limits. */
bool has_limits(const struct call *c);

/* The options by which list, and actions on many, take only some jobs. */
#define FILTER_OPTIONS "--state, --kind, --tag, --text, --config, --from"
bool filter_is_given(const struct call *c);
/* What they say, as a body's filter; a printed usage error otherwise. */
int filter_body(const struct call *c, json_t *filter);

/* Follows a job until it ends; the exit code is its outcome. */
int watch_job(struct call *c, int64_t id);

bool job_is_over(const json_t *job);
/* Why a queued job waits, as a line; nothing of others. */
void print_waiting(const json_t *job);
/* "job 3 failed: numeric: loss is NaN" */
void print_outcome(const json_t *job);

/* Left-aligned in width characters (not bytes); what is longer is cut. */
void print_cell(const char *s, int width);

const char *text_of(const json_t *o, const char *key);
/* NAN where there is no number */
double real_of(const json_t *o, const char *key);
/* "1:02:03" */
const char *duration(double seconds, char buf[32]);
