/* mulunctl: commands and options by their tables; help is printed from the same rows. */
#include "contract/text.h"
#include "ctl/command.h"
#include "ctl/place.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
        const char *name, *args;
        int min, max; /* arguments */
        command_run *run;
        const char *help;
} commands[] = {
        {"submit", "[CONFIG]", 0, 1, command_submit,
         "train a configuration of the server (see configs), or evaluate or sample; prints the id"},
        {"list", "", 0, 0, command_list, "jobs, newest first"},
        {"show", "JOB", 1, 1, command_show, "a job"},
        {"watch", "JOB", 1, 1, command_watch, "follow a job until it ends; fails if it does"},
        {"log", "JOB", 1, 1, command_log, "what its worker wrote"},
        {"events", "JOB", 1, 1, command_events, "what happened to a job, and its attempts"},
        {"why", "JOB", 1, 1, command_why, "why a job is as it is: what it waits for, why it stopped or failed"},
        {"set", "JOB", 1, 1, command_set, "change name, tags, notes, priority or limits of a job"},
        {"cancel", "[JOB...]", 0, 1000, command_cancel,
         "stop after a checkpoint, for good: jobs, or all that options take"},
        {"pause", "[JOB...]", 0, 1000, command_pause,
         "stop after a checkpoint, until it is resumed: jobs, or all that options take"},
        {"resume", "[JOB]", 0, 1, command_resume,
         "go on from the last checkpoint: a paused job, a training that is over, or all paused ones that options take"},
        {"retry", "[JOB...]", 0, 1000, command_retry,
         "run failed or cancelled jobs again, from the last checkpoint: jobs, or all that options take"},
        {"remove", "[JOB...]", 0, 1000, command_remove,
         "remove jobs that are over, with their files: jobs, or all that options take"},
        {"import", "checkpoint PATH CONFIG | events PATH", 2, 3, command_import,
         "a published checkpoint (flax), read by a configuration of the server, or TensorBoard's logs, as a job; "
         "prints the "
         "id"},
        {"series", "JOB [NAME]", 1, 2, command_series, "series of a job, or the points of one"},
        {"artifacts", "JOB", 1, 1, command_artifacts, "files that a job made"},
        {"get", "ARTIFACT", 1, 1, command_get, "download a file; one that was cut goes on where it ended"},
        {"export", "JOB [NAME...]", 1, 51, command_export,
         "every point of a job's series, or of some of them, for TensorBoard, as CSV, as JSON lines, or for NumPy"},
        {"checkpoint", "export JOB | pin JOB | unpin JOB", 2, 2, command_checkpoint,
         "a job's checkpoint as the published code's flax file, or its weights as safetensors; keep one for good"},
        {"token", "list | add NAME | remove NAME", 1, 2, command_token,
         "tokens, by which others than this machine's users may ask; a new one is shown this once"},
        {"open", "", 0, 0, command_open, "a link that opens the dashboard in a browser, once, within a minute"},
        {"audit", "", 0, 0, command_audit, "who changed what"},
        {"webhook", "list | deliveries NAME | send NAME [EVENT]", 1, 3, command_webhook,
         "where events are told, what was sent there, newest first; send one again, or try at once what waits"},
        {"stop", "", 0, 0, command_stop, "end the daemon; running jobs write a checkpoint and go on at its next start"},
        {"backup", "[NAME]", 0, 1, command_backup,
         "copy the server's state, as it is now, to a folder of its own beside it; prints which"},
        {"restore", "FOLDER STATE", 2, 2, command_restore,
         "make a state folder that mulund can start on from a backup; needs no server"},
        {"doctor", "[FILE]", 0, 1, command_doctor,
         "say what mulund would meet on this machine, with the settings of a file (/etc/mulund/mulund.conf); needs no "
         "server"},
        {"configs", "[NAME]", 0, 1, command_configs, "configurations of the server, or one of them"},
        {"device", "list | drain NAME | enable NAME", 1, 2, command_device,
         "devices of the server; take one out of service, or in again"},
        {"datasets", "", 0, 0, command_datasets, "data sets of the server, as dataset list"},
        {"dataset", "list | import NAME PATH | delete NAME", 1, 3, command_dataset,
         "data sets of the server: list them, import one from files there, delete an imported one"},
};

static const struct {
        const char *name;
        int letter;
        const char *argument, *commands, *help;
} options[] = {
#define O(id, name, letter, argument, commands, help) {name, letter, argument, commands, help},
#include "ctl/options.def"
#undef O
};

static void print_option(size_t i)
{
        char left[64];

        (void)snprintf(left, sizeof left, "%s%c%s--%s%s%s", options[i].letter ? "-" : " ",
                       options[i].letter ? options[i].letter : ' ', options[i].letter ? ", " : "  ", options[i].name,
                       options[i].argument ? " " : "", options[i].argument ? options[i].argument : "");
        (void)printf("  %-24s %s\n", left, options[i].help);
}

/* Whether a list of words, separated by spaces, holds the word. */
static bool lists(const char *list, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = list; (p = strstr(p, word)); p += n)
                if ((p == list || p[-1] == ' ') && (!p[n] || p[n] == ' '))
                        return true;
        return false;
}

/* command: its index, or ARRAY_LEN(commands) for all. */
static void print_help(size_t command)
{
        bool all = command == ARRAY_LEN(commands);

        if (all) {
                (void)printf("usage: mulunctl [--server URL] [--json] COMMAND ...\n\nCommands:\n");
                for (size_t i = 0; i < ARRAY_LEN(commands); i++)
                        (void)printf("  %-10s %-10s %s\n", commands[i].name, commands[i].args, commands[i].help);
                (void)printf("\nOptions of all commands (mulunctl COMMAND --help shows the others):\n");
        } else {
                (void)printf("usage: mulunctl %s %s%s[options]\n\n%s.\n\nOptions:\n", commands[command].name,
                             commands[command].args, *commands[command].args ? " " : "", commands[command].help);
                for (size_t i = 0; i < ARRAY_LEN(options); i++)
                        if (lists(options[i].commands, commands[command].name))
                                print_option(i);
        }
        for (size_t i = 0; i < ARRAY_LEN(options); i++)
                if (!strcmp(options[i].commands, "*"))
                        print_option(i);
}

int usage_error(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)fprintf(stderr, "mulunctl: ");
        (void)vfprintf(stderr, fmt, ap);
        (void)fprintf(stderr, "\nmulunctl --help shows how it is used\n");
        va_end(ap);
        return EXIT_USAGE;
}

int fail(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)fprintf(stderr, "mulunctl: ");
        (void)vfprintf(stderr, fmt, ap);
        (void)fprintf(stderr, "\n");
        va_end(ap);
        return EXIT_NO;
}

static int keep_option(struct call *c, size_t i, const char *value)
{
        const struct {
                enum option_id option;
                const char **list;
                size_t *n;
        } repeated[] = {{OPTION_SET, c->sets, &c->n_sets},
                        {OPTION_TAG, c->tags, &c->n_tags},
                        {OPTION_AFTER, c->afters, &c->n_afters},
                        {OPTION_CONFIG, c->configs, &c->n_configs}};

        c->options[i] = value ? value : "";
        for (size_t k = 0; k < ARRAY_LEN(repeated); k++) {
                if (repeated[k].option != (enum option_id)i)
                        continue;
                if (*repeated[k].n == REPEATED_MAX)
                        return usage_error("--%s is given more than %d times", options[i].name, REPEATED_MAX);
                repeated[k].list[(*repeated[k].n)++] = value;
        }
        return EXIT_OK;
}

/* what: "option --"; names: those that there are, with a NULL behind them. */
static int unknown(const char *what, const char *name, const char *const *names)
{
        const char *nearest = text_nearest(names, name);

        return usage_error("there is no %s%s%s%s%s%s", what, name, nearest ? "; is it " : "",
                           nearest ? strchr(what, ' ') + 1 : "", nearest ? nearest : "",
                           nearest ? " that is meant?" : "");
}

static int unknown_option(const char *name)
{
        static const char *const names[] = {
#define O(id, name, letter, argument, commands, help) name,
#include "ctl/options.def"
#undef O
                NULL};

        return unknown("option --", name, names);
}

static int unknown_command(const char *name)
{
        const char *names[ARRAY_LEN(commands) + 1] = {NULL};

        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
                names[i] = commands[i].name;
        return unknown("command ", name, names);
}

/* getopt takes a beginning of an option for it: what is "--st" today may be two options tomorrow. */
static int check_names(int argc, char **argv)
{
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
                char name[64];
                size_t n, k = 0;

                if (strncmp(argv[i], "--", 2) != 0) {
                        const char *letter = argv[i][0] == '-' ? &argv[i][1] : "";

                        while (k < ARRAY_LEN(options) && !(*letter && options[k].letter == *letter))
                                k++;
                        i += k < ARRAY_LEN(options) && options[k].argument &&
                             !letter[1]; /* its argument is no option */
                        continue;
                }
                n = 2 + strcspn(argv[i] + 2, "=");
                (void)snprintf(name, sizeof name, "%.*s", (int)n - 2, argv[i] + 2);
                while (k < ARRAY_LEN(options) && strcmp(options[k].name, name) != 0)
                        k++;
                if (k == ARRAY_LEN(options))
                        return unknown_option(name);
                i += options[k].argument && !argv[i][n];
        }
        return EXIT_OK;
}

/* Options of all commands at once, wherever they stand; which of them the command takes is checked when it is known. */
static int parse_options(int argc, char **argv, struct call *c)
{
        struct option longs[ARRAY_LEN(options) + 1] = {0};
        char shorts[3 * ARRAY_LEN(options) + 2] = ":";
        int code, r = check_names(argc, argv);

        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                longs[i] = (struct option){options[i].name, options[i].argument ? required_argument : no_argument, NULL,
                                           256 + (int)i};
                if (options[i].letter)
                        (void)snprintf(shorts + strlen(shorts), sizeof shorts - strlen(shorts), "%c%s",
                                       options[i].letter, options[i].argument ? ":" : "");
        }
        while (!r && (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                size_t i = (size_t)code - 256;

                if (code == '?')
                        return usage_error("there is no option %s", argv[optind - 1]);
                if (code == ':')
                        return usage_error("%s needs an argument", argv[optind - 1]);
                if (code < 256)
                        for (i = 0; options[i].letter != code;)
                                i++;
                r = keep_option(c, i, optarg);
        }
        return r;
}

static int check_options(const struct call *c, size_t command)
{
        for (size_t i = 0; i < ARRAY_LEN(options); i++)
                if (c->options[i] && strcmp(options[i].commands, "*") != 0 &&
                    !lists(options[i].commands, commands[command].name))
                        return usage_error("%s takes no --%s", commands[command].name, options[i].name);
        if (c->n_args < commands[command].min)
                return usage_error("%s needs %s", commands[command].name, commands[command].args);
        if (c->n_args > commands[command].max)
                return usage_error("%s has too many arguments", commands[command].name);
        return EXIT_OK;
}

static int run(struct call *c, size_t command)
{
        _cleanup_(client_freep) struct client *client = NULL;
        struct error err;
        int r;

        if (place_client(c->options[OPTION_SERVER], &client, &err) < 0)
                return usage_error("%s", err.text);
        c->client = client;
        if (c->options[OPTION_JSON])
                client_set_exact(client);
        r = commands[command].run(c);
        if (fflush(stdout) || ferror(stdout))
                return fail("standard output cannot be written");
        return r == EXIT_NO && client_is_alone(client) ? EXIT_ALONE : r;
}

int main(int argc, char **argv)
{
        struct call c = {0};
        size_t command = 0;
        int r = parse_options(argc, argv, &c);

        if (r)
                return r;
        if (c.options[OPTION_VERSION]) {
                (void)printf("mulunctl %s\n", MULUND_VERSION);
                return EXIT_OK;
        }
        if (optind == argc) {
                if (!c.options[OPTION_HELP])
                        return usage_error("a command is missing");
                print_help(ARRAY_LEN(commands));
                return EXIT_OK;
        }
        while (command < ARRAY_LEN(commands) && strcmp(commands[command].name, argv[optind]) != 0)
                command++;
        if (command == ARRAY_LEN(commands))
                return unknown_command(argv[optind]);
        if (c.options[OPTION_HELP]) {
                print_help(command);
                return EXIT_OK;
        }
        c.args = argv + optind + 1;
        c.n_args = argc - optind - 1;
        r = check_options(&c, command);
        return r ? r : run(&c, command);
}
