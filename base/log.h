/* Lines for whoever runs the process, on stderr: time, level, text. Only main functions and loop handlers log;
 * library code returns errors. Safe from any thread: a line is one write. */
#pragma once

#include "base/macros.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_set_level(enum log_level lowest);
void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
