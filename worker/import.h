/* What an import brings in, a function each: it writes into the job's folder, tells of files and points, and gives the
 * job's result. progress is for task_between. -ECANCELED: a stop was asked for. */
#pragma once

#include "worker/task.h"

/* A published checkpoint (engine/formats/published.h) as step-N.safetensors of the job, by its frozen configuration;
 * import.csv has a row a tensor. */
int import_checkpoint(struct task *t, struct task_progress *progress, json_t **ret_result, struct error *err);
/* Event files of TensorBoard, one or a folder of them: scalars as series, PNG images as files; import.csv has a row a
 * tag. */
int import_events(struct task *t, struct task_progress *progress, json_t **ret_result, struct error *err);

/* The report of every import, a table. */
#define IMPORT_REPORT "import.csv"
