/* The configuration of a job: what daemon, API and worker agree on. A struct with a member a key (config.def), read
 * from JSON with every error at its pointer, written back whole. */
#pragma once

#include "base/json.h"

enum vdm_type { VDM_MULAN_VELOCITY, VDM_MULAN_EPSILON, VDM_VDM };
enum unet_type { UNET_VDM, UNET_LDM };
enum encoder { ENCODER_UNET, ENCODER_CNN };
enum latent_type { LATENT_TOPK, LATENT_GUMBEL, LATENT_GAUSSIAN };
enum topk_noise { TOPK_NOISE_GAMMA, TOPK_NOISE_GUMBEL };
enum reparam { REPARAM_TRUE, REPARAM_LABEL };
enum gamma_type {
        GAMMA_POLY_FIXEDEND,
        GAMMA_LEARNABLE_NNET,
        GAMMA_LINEAR,
        GAMMA_LEARNABLE_SCALAR,
        GAMMA_FIXED,
        GAMMA_DDPM_LINEAR,
        GAMMA_COSINE,
        GAMMA_STRAIGHT
};
enum loss_weight { LOSS_WEIGHT_LIKELIHOOD, LOSS_WEIGHT_SIMPLE, LOSS_WEIGHT_FLOW_MATCHING };
enum optimizer { OPTIMIZER_ADAMW };
enum likelihood { LIKELIHOOD_SPARSE, LIKELIHOOD_DENSE, LIKELIHOOD_ODE };
enum ode_noise { ODE_NOISE_TRUNCATED_NORMAL, ODE_NOISE_UNIFORM };
enum ode_constants { ODE_CONSTANTS_EXACT, ODE_CONSTANTS_PUBLISHED };
enum ode_probe { ODE_PROBE_RADEMACHER, ODE_PROBE_GAUSSIAN };
enum ode_solver { ODE_SOLVER_DORMAND_PRINCE, ODE_SOLVER_TSITOURAS, ODE_SOLVER_BOGACKI_SHAMPINE };
enum ode_step { ODE_STEP_IMAGE, ODE_STEP_BATCH };
enum ode_control { ODE_CONTROL_LAST, ODE_CONTROL_PI };
enum ode_norm { ODE_NORM_STATE, ODE_NORM_IMAGE };
enum split { SPLIT_TRAIN, SPLIT_TEST };
enum weights { WEIGHTS_EMA, WEIGHTS_PARAMS };
enum sampling_latent { SAMPLING_LATENT_FIXED, SAMPLING_LATENT_RANDOM, SAMPLING_LATENT_IMAGES };
enum sampling_method { SAMPLING_METHOD_ANCESTRAL, SAMPLING_METHOD_ODE };
enum backend { BACKEND_AUTO, BACKEND_CPU, BACKEND_REFERENCE, BACKEND_CUDA };
enum precision { PRECISION_FLOAT32, PRECISION_BF16, PRECISION_TF32 };
enum plan_choice { PLANS_MEASURED, PLANS_RULE };
enum recompute { RECOMPUTE_NONE, RECOMPUTE_NORM, RECOMPUTE_BLOCK };

/* Names of the choices in JSON, in the enum's order, NULL-terminated; the array is called TAG_names. */
extern const char *const vdm_type_names[];    /* mulan_velocity mulan_epsilon vdm */
extern const char *const unet_type_names[];   /* vdm ldm */
extern const char *const encoder_names[];     /* unet cnn */
extern const char *const latent_type_names[]; /* topk gumbel gaussian */
extern const char *const topk_noise_names[];  /* gamma gumbel */
extern const char *const reparam_names[];     /* true, label */
extern const char *const
        gamma_type_names[]; /* poly_fixedend learnable_nnet linear learnable_scalar fixed ddpm_linear cosine straight */
extern const char *const loss_weight_names[];     /* likelihood simple flow_matching */
extern const char *const optimizer_names[];       /* adamw */
extern const char *const likelihood_names[];      /* sparse dense ode */
extern const char *const ode_noise_names[];       /* truncated_normal uniform */
extern const char *const ode_constants_names[];   /* exact published */
extern const char *const ode_probe_names[];       /* rademacher gaussian */
extern const char *const ode_solver_names[];      /* dormand_prince tsitouras bogacki_shampine */
extern const char *const ode_step_names[];        /* image batch */
extern const char *const ode_control_names[];     /* last pi */
extern const char *const ode_norm_names[];        /* state image */
extern const char *const split_names[];           /* train test */
extern const char *const weights_names[];         /* ema params */
extern const char *const sampling_latent_names[]; /* fixed random images */
extern const char *const sampling_method_names[]; /* ancestral ode */
extern const char *const backend_names[];         /* auto cpu reference cuda */
extern const char *const precision_names[];       /* float32 bf16 tf32 */
extern const char *const plan_choice_names[];     /* measured rule */
extern const char *const recompute_names[];       /* none norm block */

/* Strings are kept in place, so a config is copied by assignment. */
struct config {
#define BOOL(path, member, default_, text) bool member;
#define INT(path, member, default_, min, max, unit, text) int64_t member;
#define REAL(path, member, default_, min, max, unit, text) double member;
#define OPTIONAL_REAL(path, member, min, max, unit, text) double member;
#define STRING(path, member, default_, max_bytes, text) char member[(max_bytes) + 1];
#define CHOICE(path, member, tag, default_, text) enum tag member;
#include "contract/config.def"
#undef BOOL
#undef INT
#undef REAL
#undef OPTIONAL_REAL
#undef STRING
#undef CHOICE
};

void config_defaults(struct config *ret);

/* Reads a document of nested objects ({"model": {"sm_n_embd": 64}, ...}); keys that are absent keep their defaults.
 * All errors are collected: unknown key, wrong type, out of range (with the range), then config_check's.
 * An integer is taken for a real; 1e3 or 8.0 is not an integer. 0, or negative with errs->n > 0 and *ret untouched. */
int config_from_json(const json_t *document, struct config *ret, struct errors *errs);

/* What no single row can say: latent_k <= latent_size; sm_n_embd a multiple of 32; schedules that belong to another
 * vdm_type (config.def, gamma_type); "ldm" with vdm, or in another precision than float32; discrete time with the
 * velocity bound; a loss_weight beside the likelihood's where the schedule is learned or time is discrete; warm-up
 * within the run when lr_decay. Adds to errs; 0 or negative. */
int config_check(const struct config *c, struct errors *errs);

/* A digest of all rows but those at, or below, the paths of without (NULL-terminated; "optimizer", "training.seed"):
 * configurations that differ in nothing else have the same. */
void config_digest(const struct config *c, const char *const *without, char ret[DIGEST_SIZE]);

/* The whole configuration, every key, as nested objects. New reference; NULL without memory. */
json_t *config_to_json(const struct config *c);

/* Sets the value at a dotted path ("model.sm_n_embd") in a document, making the objects on the way. -EINVAL with the
 * pointer when the path is not a key of the table or goes through something that is not an object. value is borrowed.
 */
int config_override(json_t *document, const char *dotted, json_t *value, struct errors *errs);

/* The path of the key that is called so, by its whole path or by what that ends with ("learning_rate"). NULL: there is
 * none, or several; added to errs at `where`. */
const char *config_path(const char *key, const char *where, struct errors *errs);

/* The value that a text says, as the type of the key at that path has it ("true" is a text for a choice). New
 * reference; NULL: added to errs at `where`. */
json_t *config_value(const char *path, const char *text, const char *where, struct errors *errs);

/* JSON Schema (2020-12) of the document, from the table. New reference. */
json_t *config_schema(void);
