"""The faults that run.py plants: small slips that somebody could make, and the tests that should see each.

A row: its name; the file; the text that stands there, once; what stands instead; the tests, the cheapest first, as meson's suite:name
with #filter (pytest's -k, an operation of kernels-check). equivalent: why nothing can see it, where that is so; it is not counted."""

from typing import NamedTuple


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: list
    equivalent: str = ""


def operation(name):
    return [f"kernels:operations-cpu#{name}"]


def whole(file, cases):
    return [f"whole:{file}#{cases}"]


def engine(names):
    return [f"engine:training#{names}"]


KIND, PARTS = whole("training", "published_kind and 1"), whole("training", "published_kind and 2")
RESUMED, FAILING, SPLIT = (engine(names) for names in ("resume*", "from_the_first_value*", "results_do_not_depend*"))
EVALUATION, SAMPLES, IMAGES = (engine(names) for names in ("an_evaluation_does*", "samples*", "every_image*"))

TRAINER = [
    Fault("every part has the first part's rows", "engine/trainer.c", "p->rows = t->program.rows + part * p->m;", "p->rows = t->program.rows;", PARTS),
    Fault("the last part's gradients alone", "engine/trainer.c", "p->accumulate = part > 0;", "p->accumulate = false;", PARTS),
    Fault("parts' factors in the first part's rows", "engine/trainer.c", "t->factored.first_row = part * p->m;", "t->factored.first_row = 0;",
          PARTS),
    Fault("gradients times 3", "engine/trainer.c", "(float)(1 / ((double)t->batch", "(float)(3 / ((double)t->batch",
          whole("training", "epsilon and updates")),
    Fault("no dropout in training", "engine/trainer.c", "p->dropout = p->config->sm_pdrop > 0;", "p->dropout = false;",
          whole("training", "clip_out_of_reach")),
    Fault("times spread over a part", "engine/trainer.c", "t->images, p->rows, t->batch, !p", "t->images, p->rows, p->m, !p", PARTS),
    Fault("antithetic times swapped", "engine/trainer.c", "!p->config->antithetic_time_sampling);", "p->config->antithetic_time_sampling);",
          whole("training", "clipped")),
    Fault("a window's sums are not reset", "engine/trainer.c", "        memset(t->program.at.window_sums, 0, sizeof t->program.at.window_sums);\n", "",
          whole("training", "epsilon and updates")),
    Fault("a window's count is not reset", "engine/trainer.c", "        t->program.at.n_window = 0;\n", "", whole("training", "epsilon and updates")),
    Fault("the open window's count is not resumed", "engine/trainer.c", "t->program.at.n_window = n;", "t->program.at.n_window = 0;", KIND),
    Fault("resumed one step late", "engine/trainer.c", "t->program.at.step = step;", "t->program.at.step = step + 1;", RESUMED),
    Fault("another seed once resumed", "engine/trainer.c", "t->program.at.seed = (uint32_t)t->program.rt->config->seed;", "t->program.at.seed = 1;", KIND),
    Fault("the state is written to the device once", "engine/trainer.c", "if (r >= 0 && t->changed)\n", "if (r >= 0 && x->at.step == 0)\n",
          whole("training", "epsilon and updates")),
    Fault("a failed step is no error", "engine/trainer.c", "return x->at.failure ? failure(t, err) : 0;", "return 0;", FAILING),
    Fault("a checkpoint without the open window", "engine/trainer.c", '"window_steps", (json_int_t)t->program.at.n_window',
          '"window_steps", (json_int_t)0', KIND),
]

LIKELIHOOD = [
    Fault("evaluation's times spread over a batch", "engine/likelihood.c", "dense ? v->repeats : v->what->n_images",
          "dense ? v->repeats : p->m", whole("evaluation", "sparse")),
    Fault("a dense evaluation's times are independent", "engine/likelihood.c", "!dense && !p->config", "!p->config",
          whole("evaluation", "dense_vdm")),
    Fault("evaluation swaps weights and average", "engine/likelihood.c", "e->weights == WEIGHTS_EMA", "e->weights != WEIGHTS_EMA",
          whole("evaluation", "one_image")),
    Fault("the standard error's n - 1", "engine/likelihood.c", "squares / (n - 1)", "squares / n",
          whole("evaluation", "sparse")),
    Fault("a batch moves on by one row", "engine/likelihood.c", ".position_by = p->m,", ".position_by = 1,", EVALUATION),
    Fault("an evaluation with dropout", "engine/likelihood.c", "        bool dense = v->repeats > 1;\n", "        bool dense = v->repeats > 1;\n\n        p->dropout = true;\n",
          whole("evaluation", "sparse_weights")),
]

SAMPLER = [
    Fault("sigma_prior ignored", "engine/sampler.c", ".scale = (float)p->config->sigma_prior);", ".scale = 1);",
          whole("sampling", "velocity_from_epsilon")),
    Fault("sample_softmax ignored", "engine/sampler.c", "p->config->sample_softmax ? s->uniform : NULL", "NULL",
          whole("sampling", "vdm_softmax")),
    Fault("the sampler's first time", "engine/sampler.c", ".step = s->ode ? 0 : s->what.n_steps, .position", ".step = s->what.n_steps - 1, .position",
          whole("sampling", "vdm and not softmax")),
    Fault("latents swapped", "engine/sampler.c", "s->what.latent == SAMPLING_LATENT_FIXED", "s->what.latent != SAMPLING_LATENT_FIXED",
          whole("sampling", "samples and epsilon and not velocity")),
    Fault("sampling swaps weights and average", "engine/sampler.c", "what->weights == WEIGHTS_EMA", "what->weights != WEIGHTS_EMA",
          whole("sampling", "vdm and not softmax")),
    Fault("every chunk makes the first samples", "engine/sampler.c", ".position = first, .tau", ".position = 0, .tau", SAMPLES),
    Fault("the sampler's noise from another stream", "engine/sampler.c", ".t = s->t, .s = s->s);\n        draw(s, STREAM_SAMPLE,",
          ".t = s->t, .s = s->s);\n        draw(s, STREAM_EPS,", whole("sampling", "vdm and not softmax")),
    Fault("sampling's progress counts steps once", "engine/sampler.c", "{first * n_steps + done * m, m, 1,", "{first + done * m, m, 1,", ["worker:worker#evaluate"]),
]

OPTIMIZER = [
    Fault("decay on biases", "engine/optimizer.c", "decayed ? (float)c->weight_decay : 0", "(float)c->weight_decay",
          ["golden:training/velocity"]),
    Fault("the norm of the last range alone", "engine/optimizer.c", ".accumulate = i > 0);", ".accumulate = false);",
          whole("training", "clipped")),
    Fault("no clipping", "engine/optimizer.c", "isfinite(c->gradient_clip_norm) ? c->gradient_clip_norm : 0", "0",
          whole("training", "clipped")),
    Fault("warm-up off by one", "engine/optimizer.c", ".n_warmup = c->num_steps_lr_warmup,", ".n_warmup = c->num_steps_lr_warmup + 1,",
          whole("training", "nnet and updates")),
    Fault("lr_decay ignored", "engine/optimizer.c", ".decay = c->lr_decay,", ".decay = false,", whole("training", "epsilon and updates")),
    Fault("the average's rate", "engine/optimizer.c", ".ema_rate = c->ema_rate,", ".ema_rate = c->b2,", ["golden:training/vdm"]),
    Fault("the schedule's part counted twice", "engine/optimizer.c", "!(part->of_schedule && f && f->n)", "true", KIND),
]

MODEL = [
    Fault("eps_0 = eps", "engine/model.c", ".eps_0 = batch->eps_0,", ".eps_0 = batch->eps,", ["golden:losses/vdm_fixed"]),
    Fault("the condition's gradient to gamma left out", "engine/model.c",
          "        RUN(p, row_mean_backward, .m = p->m, .n = s->d, .dy = b->dg, .dx = b->d_gamma[2]);\n", "", ["golden:losses/velocity"]),
    Fault("z's gradient to gamma' instead of gamma", "engine/model.c", ".dz = b->d_z, .d_gamma = b->d_gamma[2]",
          ".dz = b->d_z, .d_gamma = b->d_gamma[3]", ["golden:losses/velocity"]),
    Fault("the sign of KL's gradient", "engine/model.c", "latent_backward(model, b, batch, b->de, grad_scale);", "latent_backward(model, b, batch, b->de, -grad_scale);",
          ["golden:losses/velocity"]),
    Fault("an unconditioned latent's gradient begins with what was there", "engine/model.c", "if (b->de && !networks_conditioned(p->config))",
          "if (b->de && p->accumulate)", ["golden:losses/velocity_no_z"]),
    Fault("discrete time: gamma_s = gamma_t", "engine/model.c", "discrete ? b->at_s.gamma : b->at_t.gamma_prime",
          "discrete ? b->at_t.gamma : b->at_t.gamma_prime", ["golden:losses/vdm_T1000"]),
    Fault("gamma_1's gradient left out", "engine/model.c",
          "        schedule_evaluate_backward(p, s, &b->at_1, b->d_gamma[1], NULL, b->de);\n", "", ["golden:losses/vdm_scalar"]),
    Fault("KL left out of the result", "engine/model.c", ".kl = place(p, ret->kl, p->m)", ".kl = place(p, NULL, p->m)",
          ["golden:losses/velocity"]),
    Fault("eps and eps_0 of one stream", "engine/batch.c", ".stream = STREAM_EPS_0,", ".stream = STREAM_EPS,",
          whole("training", "clip_out_of_reach")),
    Fault("continuous times where they are discrete", "engine/batch.c", ".n_timesteps = c->sm_n_timesteps,", ".n_timesteps = 0,",
          whole("training", "clip_out_of_reach")),
    Fault("the gamma latent's k", "engine/batch.c", ".k = c->latent_k,", ".k = n,", whole("training", "epsilon and updates")),
]

PASS = [
    Fault("a factor of the first rows", "engine/pass.c", "*rows = y + f->first_row * n;", "*rows = y;", PARTS),
    Fault("factored biases left out", "engine/pass.c",
          "        add_factored(p->factored, l->factored_bias, 1, l->out, keep_factor(p, NULL, 1), kept_dy);\n", "", KIND),
    Fault("factors swapped", "engine/pass.c", "(struct outer_gradient){f->rows, k, n, x, dy}", "(struct outer_gradient){f->rows, n, k, dy, x}",
          KIND),
]

SCHEDULE = [
    Fault("gamma's ends swapped", "engine/schedule.c", "one ? p->config->gamma_max : p->config->gamma_min",
          "one ? p->config->gamma_min : p->config->gamma_max", ["golden:losses/velocity"]),
    Fault("the monotone net's derivative in t", "engine/schedule.c", ".scale = 0, .shift = 2);", ".scale = 0, .shift = 1);",
          ["golden:schedules/vdm_learnable_nnet"]),
    Fault("the monotone net's gradient to the latent", "engine/schedule.c", ".accumulate = true, .scale = 2);",
          ".accumulate = true, .scale = 1);", whole("training", "updates and nnet and not vdm")),
    Fault("the last coefficient's gradient alone", "engine/schedule.c", "k->d_coefficient[i], ds, i > 0);", "k->d_coefficient[i], ds, false);",
          ["golden:losses/velocity"]),
    Fault("the schedule's gradient to the latent replaces the network's", "engine/schedule.c", "k->e, dh, de, true);", "k->e, dh, de, false);",
          ["golden:losses/velocity"]),
    Fault("the derivative's rows with a bias", "engine/schedule.c", "s->layers[i].w, derivative ? NULL : s->layers[i].b)", "s->layers[i].w, s->layers[i].b)",
          ["golden:schedules/learnable_nnet"]),
    Fault("parts of a batch zero the schedule's gradients", "engine/schedule.c", "if (q && p->grads && !p->accumulate)",
          "if (q && p->grads)", engine("parts_of_a_batch*")),
    Fault("the low parts of the coefficients", "engine/schedule.c", "k->s[1], k->s[1] + n, k->coefficient[i]);",
          "k->s[1], NULL, k->coefficient[i]);", ["golden:losses/velocity", "golden:full/cifar10-conditioned"] + KIND),
    Fault("the monotone net's width", "engine/schedule.c", ".width = baseline ? BASELINE_WIDTH : IMAGE_BYTES};", ".width = BASELINE_WIDTH};",
          ["golden:schedules/learnable_nnet"]),
]

PARAMS = [
    Fault("decay on the line's bias", "engine/params.c", "q->role != PARAM_BIAS && q->role != PARAM_CONSTANT_BIAS", "q->role != PARAM_BIAS",
          whole("training", "vdm_nnet")),
    Fault("a monotone net's first weights", "engine/params.c", "PARAM_MONOTONE ? 0.01", "PARAM_MONOTONE ? 0.1",
          whole("training", "from_the_seed")),
    Fault("the cut normal's deviation", "engine/params.c", "sqrt(1.0 / (double)fan_in(q)) / TRUNCATED_STD", "sqrt(1.0 / (double)fan_in(q))",
          whole("training", "from_the_seed")),
    Fault("all layers begin alike", "engine/params.c", "truncated_normal(seed, number, (uint32_t)j, 2)", "truncated_normal(seed, 0, (uint32_t)j, 2)",
          whole("training", "from_the_seed")),
    Fault("fan in of the outputs", "engine/params.c", "return q->size / q->shape[q->n_dims - 1];", "return q->size / q->shape[0];",
          whole("training", "from_the_seed")),
]

TAPE = [
    Fault("the accumulate flag lost", "engine/tape.c", "add[j] = x->d_written;", "add[j] = false;", ["engine:tape"]),
    Fault("the residual's gradient dropped", "engine/tape.c",
          "        } else if (x->d_written) {\n                add_gradient(p, x, y->d);\n        } else {",
          "        } else if (!x->d_written) {", ["golden:networks/score_vdm"]),
    Fault("w_shared ignored", "engine/tape.c", "t->tensors[j]->w_shared |= t->tensors[j]->w == y->w;", "t->tensors[j]->w_shared = false;", ["engine:tape"]),
    Fault("a value released that backward reads", "engine/tape.c", "x->readers == 0 && (x->again || x->readers_back == 0)", "x->readers == 0",
          ["engine:tape"]),
    Fault("an output released that its backward reads", "engine/tape.c",
          "                y->readers_back += y->wanted && y->op && y->op->reads_output;\n", "", ["golden:layers/attention"],
          "no back end of this release reads an attention's output backward: struct attention_backward_args offers it to those that will"),
    Fault("a gradient aside is not added", "engine/tape.c", "                if (aside[j])\n                        add_gradient(p, y->in[j], aside[j]);\n",
          "", ["engine:tape"]),
    Fault("what is made again is kept", "engine/tape.c", "--y->in[j]->readers_back == 0)\n                        release_value(p, y->in[j]);",
          "--y->in[j]->readers_back == 0 && !y->in[j]->again)\n                        release_value(p, y->in[j]);", ["engine:tape"]),
    Fault("a sum made before its term", "engine/tape.c", "        memmove(t->tensors + i, t->tensors + i + 1, (t->n - i - 1) * sizeof(*t->tensors));\n        t->tensors[t->n - 1] = y;\n", "        (void)i;\n", ["golden:networks/score_vdm"]),
]

OPERATIONS = [
    Fault("the addend's gradient left out", "engine/operations.c", ".daddend = dx[NORM_ADDEND]);", ".daddend = NULL);", ["engine:tape"]),
    Fault("shared weights' gradients replaced", "engine/operations.c", "return p->accumulate || y->w_shared;", "return p->accumulate;",
          ["engine:tape"]),
    Fault("parts' weights' gradients replaced", "engine/operations.c", "return p->accumulate || y->w_shared;", "return y->w_shared;", PARTS),
    Fault("the second input's weights' gradient", "engine/operations.c", "                l.dw += skip;\n", "                l.dw += 0;\n",
          ["golden:networks/score_vdm"]),
    Fault("the second input's bias once more", "engine/operations.c", "y->b == NO_PARAM || part == DENSE_X_B ? NULL", "y->b == NO_PARAM ? NULL",
          ["golden:networks/score_vdm"]),
    Fault("all masks alike", "engine/operations.c", ".block = (uint32_t)y->dropout,", ".block = 0,", whole("training", "clip_out_of_reach")),
    Fault("the context's gradient replaced", "engine/operations.c", ".accumulate = add[TIME_E]);", ".accumulate = false);",
          ["engine:tape"]),
    Fault("the features without z's low part", "engine/operations.c", ".z_low = y->in[0]->low, .y =", ".z_low = NULL, .y =",
          ["golden:losses/velocity", "golden:full/cifar10-conditioned"] + KIND),
    Fault("the residual of a dense layer", "engine/operations.c", "residual || part == DENSE_X_B);", "part == DENSE_X_B);",
          ["golden:layers/attention"]),
    Fault("the norm's swish lost backward", "engine/operations.c", ".stats = y->kept, .swish = y->swish,", ".stats = y->kept, .swish = false,",
          ["engine:tape"]),
]

NETWORKS = [
    Fault("gamma not shifted in the time embedding", "engine/networks.c", "c->gamma_min, 1.0 / (c->gamma_max - c->gamma_min)",
          "0, 1.0 / (c->gamma_max - c->gamma_min)", ["golden:networks/score_vdm"]),
    Fault("the skips in the other order", "engine/networks.c", "k.skips[c->sm_n_layer - i]", "k.skips[i]", ["golden:networks/score_vdm"]),
    Fault("a block without dropout", "engine/networks.c", ".swish = true, .dropout = true, .again = true,", ".swish = true, .again = true,",
          whole("training", "clip_out_of_reach")),
    Fault("no attention in the middle", "engine/networks.c", '        h = attention_block(t, "mid.attn_1", h);\n', "",
          ["golden:networks/score_vdm"]),
]

RUNTIME = [
    Fault("the average begins at 0", "engine/runtime.c",
          "                rt->k->copy_in(rt->stream, rt->section[SECTION_EMA] + q->offset, host, bytes);\n", "",
          whole("training", "from_the_seed")),
    Fault("every image read is the chunk's first", "engine/runtime.c", "dataset_image(d, split, first + i, host", "dataset_image(d, split, first, host",
          whole("evaluation", "one_image") + whole("evaluation", "sparse")),
    Fault("chunks of images all alike", "engine/runtime.c", "dataset_image(d, split, first + i, host", "dataset_image(d, split, i, host", IMAGES),
    Fault("a checkpoint without the moments", "engine/runtime.c", "sections |= (unsigned)!!rt->section[i] << i;",
          "sections |= (unsigned)(rt->section[i] && i < SECTION_M) << i;", RESUMED),
    Fault("a window longer than what is left", "engine/program.c", "(int64_t)fmin(fit, (double)most)", "(int64_t)fmin(fit, (double)most + 1)",
          SPLIT),
    Fault("a grid's rows", "engine/grid.c", "i = row * e->columns;", "i = row * e->n;", ["engine:grid"]),
]

CHECKPOINT = [
    Fault("sections swapped in the file", "engine/checkpoint.c", "io->read(io->user, (enum section)s, q->offset",
          "io->read(io->user, (enum section)(SECTION_N - 1 - s), q->offset", ["engine:checkpoint"]),
    Fault("pieces of a tensor all alike", "engine/checkpoint.c", "q->offset + done, n, piece, err", "q->offset, n, piece, err",
          ["engine:checkpoint"] + IMAGES),
    Fault("the digest is not checked", "engine/checkpoint.c", "if (r >= 0 && digest[0])", "if (r >= 0 && !digest[0])", ["engine:checkpoint"]),
    Fault("bytes behind the last tensor", "engine/checkpoint.c", "        if (at != data_bytes)\n", "        if (at > data_bytes)\n",
          ["engine:checkpoint"]),
]

FLAX, PUBLISHED, EVENTS = ["formats:flax"], ["formats:published"], ["formats:tfevents"]
FORMATS = [
    Fault("a size that the file has not is believed", "engine/formats/msgpack.c", "return least <= r->end - r->at ? 0", "return least >= 0 ? 0", FLAX),
    Fault("a map has as many keys as values", "engine/formats/msgpack.c", "MSGPACK_MAP ? 2 * ret->size : ret->size;", "MSGPACK_MAP ? ret->size : ret->size;",
          FLAX, equivalent="the second half is missed at its own token, with another text"),
    Fault("signed integers without their sign", "engine/formats/msgpack.c", "t->integer = is_signed ? (int64_t)(bits << shift) >> shift",
          "t->integer = is_signed ? (int64_t)bits", FLAX),
    Fault("128 in a byte of its own", "engine/formats/msgpack.c", "if (v >= -32 && v < 128)", "if (v >= -32 && v <= 128)", FLAX),
    Fault("a body of 16 bytes is no fixed one", "engine/formats/msgpack.c", "while (form < 5 && n != 1u << form)", "while (form < 4 && n != 1u << form)",
          FLAX, equivalent="no array has a body of 16 bytes: its head alone has 12 and more, and bodies in use have more"),
    Fault("a key twice", "engine/formats/flax.c", "if (!strcmp(sorted[i - 1]->key, sorted[i]->key))", "if (sorted[i - 1]->key == sorted[i]->key)", FLAX),
    Fault("bytes behind the checkpoint", "engine/formats/flax.c", "if (r >= 0 && reader->at != file_bytes)", "if (r >= 0 && reader->at > file_bytes)", FLAX),
    Fault("bytes behind an extension's value", "engine/formats/flax.c", "if (r >= 0 && reader->at != reader->end)", "if (r >= 0 && reader->at > reader->end)", FLAX),
    Fault("nesting without an end", "engine/formats/flax.c", "if (depth > FLAX_DEPTH_MAX)", "if (depth > 1000 * FLAX_DEPTH_MAX)", FLAX),
    Fault("values without an end", "engine/formats/flax.c", "if (f->n_nodes == FLAX_NODES_MAX ||", "if (f->n_nodes == 100 * FLAX_NODES_MAX ||", FLAX),
    Fault("bytes that do not fit the shape", "engine/formats/flax.c", "|| expected != t.size)", "|| expected > t.size)", FLAX),
    Fault("a shape below zero", "engine/formats/flax.c", "if (d < 0 || q->n_dims", "if (q->n_dims", FLAX),
    Fault("chunks that do not fill the shape", "engine/formats/flax.c", "if (r >= 0 && size != q->size)", "if (r >= 0 && size > q->size)", FLAX),
    Fault("every chunk the first", "engine/formats/flax.c", "r = add_piece(f, f->file->pieces[c->first_piece].at, c->size, err);",
          "r = add_piece(f, f->file->pieces[numbered[0]->first_piece].at, c->size, err);", FLAX),
    Fault("a piece from its beginning", "engine/formats/flax.c", "p->at + first * dtype_bytes[array->dtype], some", "p->at, some", FLAX),
    Fault("bfloat16 in the low half", "engine/formats/flax.c", "uint32_t bits = (uint32_t)halves[i] << 16;", "uint32_t bits = (uint32_t)halves[i];", FLAX),
    Fault("the moments swapped", "engine/formats/published.c", '{[SECTION_M] = "mu", [SECTION_V] = "nu"}', '{[SECTION_M] = "nu", [SECTION_V] = "mu"}', PUBLISHED),
    Fault("the averaged weights are the weights", "engine/formats/published.c", '{"params", "ema_params", "opt_state", "opt_state"}',
          '{"params", "params", "opt_state", "opt_state"}', PUBLISHED),
    Fault("any shape fits", "engine/formats/published.c", "if (n->n_dims == q->n_dims && !memcmp(", "if (n->n_dims == q->n_dims || !memcmp(", PUBLISHED),
    Fault("half a section will do", "engine/formats/published.c", "if (r >= 0 && found && missing) {", "if (r >= 0 && found && missing && n_missing > p->n) {", PUBLISHED),
    Fault("values that are no numbers", "engine/formats/published.c", "if (!isfinite(values[i]) ||", "if (isinf(values[i]) ||", PUBLISHED),
    Fault("the rest is not counted", "engine/formats/published.c", "for (size_t i = 1; i < f->n_nodes && r >= 0; i++) {", "for (size_t i = f->n_nodes; i < f->n_nodes && r >= 0; i++) {",
          PUBLISHED),
    Fault("what is used is left over, too", "engine/formats/published.c", "if (!m->used[i] && !n->hidden &&", "if (!n->hidden &&", PUBLISHED),
    Fault("masks the other way round", "engine/formats/export.c", "score == (mask == MASK_SCORE);", "score != (mask == MASK_SCORE);", PUBLISHED),
    Fault("names sorted as the header has them", "engine/formats/export.c", "                qsort(e->sorted[s], n[s], sizeof *e->sorted[s], by_name);\n", "", PUBLISHED),
    Fault("clipping is not a chain", "engine/formats/export.c", 'bool clips = json_is_number(', 'bool clips = json_is_string(', PUBLISHED),
    Fault("a stretch too far", "engine/formats/export.c", "if (e->stretches[middle].at <= at)", "if (e->stretches[middle].at < at)", PUBLISHED,
          equivalent="at a stretch's first byte the one before it has none left: the loop goes on to the next"),
    Fault("chunks of the whole array's beginning", "engine/formats/export.c", "return r < 0 ? r : put_values(e, t->at + 4 * first, 4 * n, err);",
          "return r < 0 ? r : put_values(e, t->at, 4 * n, err);", PUBLISHED),
    Fault("a float32 is any value", "engine/formats/tfevents.c", "bool fits = (double)single == value || value != value;", "bool fits = true;", EVENTS),
    Fault("packed numbers are one", "engine/formats/tfevents.c", "n = (uint64_t)(m.end - m.at) / width;", "n = (uint64_t)(m.end - m.at) / width > 0;", EVENTS),
    Fault("a filled tensor is a scalar", "engine/formats/tfevents.c", "|| (t->shaped && t->size != 1))", "|| (t->shaped && t->size < 1))", EVENTS),
    Fault("the step must stand first", "engine/formats/tfevents.c", "                r = begin_event(t, err);\n", "                t->step = 0;\n                r = 0;\n", EVENTS),
    Fault("an image too few", "engine/formats/tfevents.c", "|| t->image.number++ < 2)", "|| t->image.number++ < 3)", ["formats:foreign#event_file"]),
    Fault("groups are taken", "engine/formats/tfevents.c", "        default:\n                return -1;\n        }\n}\n\nstatic double as_double",
          "        default:\n                return 1;\n        }\n}\n\nstatic double as_double", EVENTS),
    Fault("points of the place itself again", "store/statements.def", "(step, attempt, ordinal) > (:step, :attempt, :ordinal)", "(step, attempt, ordinal) >= (:step, :attempt, :ordinal)",
          ["store:store"]),
    Fault("superseded points are exported", "store/curves.c", "if (limits_visible(&limits, place->attempt, place->step))", "if (limits.n)", ["store:store"]),
    Fault("a series ends with a whole piece", "api/export.c", "if (r >= 0 && n < POINTS_AT_ONCE) {", "if (r >= 0) {", ["api:api#every_point"]),
]

PHILOX = [
    Fault("the same order in every epoch", "kernels/philox.h", "half_bits, seed, (uint64_t)(position / count));", "half_bits, seed, 0);", KIND),
    Fault("the Feistel network adds", "kernels/philox.h", "uint32_t next = left ^ f;", "uint32_t next = (left + f) & mask;", KIND),
    Fault("the block is ignored", "kernels/philox.h", "stream << 16 | (block & 0xFFFFu));", "stream << 16);", ["kernels:philox"]),
    Fault("the key's schedule", "kernels/philox.h", "k1 += 0xBB67AE85u;", "k1 += 0xBB67AE58u;", ["kernels:philox"]),
    Fault("the angle half a step on", "kernels/philox.h", "((double)word1 * 0x1p-32);", "(((double)word1 + 0.5) * 0x1p-32);",
          ["kernels:philox"]),
    Fault("the lanes' step", "kernels/cpu/philox_lanes.h", ".c2 = (uint32_t)step,", ".c2 = 0,", operation("random_normal")),
    Fault("every chunk draws the first's", "kernels/cpu/random.c", "counters[i] = (uint32_t)(first + i);", "counters[i] = (uint32_t)i;",
          operation("random_normal")),
    Fault("a discrete time rounded down", "kernels/reference/random.c", "ceil(t * steps)", "floor(t * steps)",
          whole("training", "clip_out_of_reach")),
    Fault("antithetic times all alike", "kernels/reference/random.c", "t = fmod(t + (double)row->time_place / (double)a->total, 1);",
          "t = fmod(t, 1);", whole("training", "nnet and updates")),
    Fault("a gamma variate's power", "kernels/reference/random.c", "pow(open_uniform(p.v[3]), (double)a->k)",
          "pow(open_uniform(p.v[3]), 1 / (double)a->k)", whole("training", "epsilon and updates")),
    Fault("Gumbel's sign", "kernels/reference/random.c", "(float)-log(-log(", "(float)log(-log(", whole("training", "discrete")),
]

ROWS = [
    Fault("every image of a batch the same", "kernels/reference/rows.c", "a->state->step * a->batch + i),", "a->state->step * a->batch),",
          whole("training", "clip_out_of_reach")),
    Fault("images of a batch share their noise", "kernels/reference/rows.c", ".image = (uint64_t)i,", ".image = 0,",
          whole("training", "clip_out_of_reach")),
    Fault("the data one batch ahead", "kernels/reference/rows.c", "a->state->step * a->batch + i", "(a->state->step + 1) * a->batch + i",
          whole("training", "clip_out_of_reach")),
    Fault("dense repeats share their noise", "kernels/reference/rows.c", ".block = (uint32_t)repeat,", ".block = 0,",
          whole("evaluation", "dense_vdm")),
    Fault("KL left out of an evaluation", "kernels/reference/rows.c", "((double)terms[1] + (double)a->kl[i])", "(double)terms[1]",
          whole("evaluation", "sparse_weights")),
    Fault("rows behind the last count", "kernels/reference/rows.c", "i < MIN(a->m, left)", "i < a->m", operation("image_add")),
    Fault("the last row's image", "kernels/reference/rows.c", "a->n_images * a->repeats - 1);", "a->n_images * a->repeats);",
          operation("list_rows")),
]

STEPS = [
    Fault("the warm-up's first rate", "kernels/reference/step.c", "(double)step / (double)w;", "(double)(step + 1) / (double)w;",
          operation("step_begin")),
    Fault("warm-up one step longer, which divides by 0 where there is none", "kernels/reference/step.c", "if (step < w)", "if (step <= w)",
          operation("step_begin")),
    Fault("lr_decay from the start", "kernels/reference/step.c", "(double)(step - w) / (double)(n - w)", "(double)step / (double)n",
          whole("training", "epsilon and updates") + whole("training", "two_layers")),
    Fault("the moments' correction", "kernels/reference/step.c", "pow(a->b2, (double)s->step + 1)", "pow(a->b2, (double)s->step + 2)",
          whole("training", "clip_out_of_reach")),
    Fault("a step's sums are not reset", "kernels/reference/step.c", "s->step_sums[i] = 0;", "s->step_sums[i] *= 1;",
          whole("training", "clip_out_of_reach")),
    Fault("a gradient that is not finite", "kernels/reference/step.c",
          "        if (!isfinite(norm))\n                s->failure = FAILURE_GRADIENT;\n", "", operation("step_check")),
    Fault("a loss that is not finite", "kernels/reference/step.c", "s->failure = FAILURE_LOSS;", "s->failure = FAILURE_NONE;", FAILING),
    Fault("a step counts although it failed", "kernels/reference/step.c",
          "        if (s->failure != FAILURE_NONE)\n                return 0;\n        for (int i = 0; i < SUM_N; i++)\n                s->window_sums",
          "        for (int i = 0; i < SUM_N; i++)\n                s->window_sums", FAILING),
    Fault("clipped to the norm times itself", "kernels/reference/step.c", "a->clip_norm / norm", "1 / norm", whole("training", "clipped")),
    Fault("small gradients are blown up", "kernels/reference/step.c", "norm >= a->clip_norm ?", "norm > 0 ?",
          whole("training", "clip_out_of_reach")),
    Fault("var0 is var1", "kernels/reference/step.c", "(double)a->vars[2 * i] / (double)a->batch", "(double)a->vars[2 * i + 1] / (double)a->batch",
          whole("training", "clip_out_of_reach")),
]

REFERENCE = [
    Fault("k + 1 of the latent", "kernels/reference/latent.c", "return larger < k ? 1 : 0;", "return larger <= k ? 1 : 0;",
          ["golden:losses/velocity"]),
    Fault("the sum of gamma's weights", "kernels/reference/latent.c", "* (j + 1) / (double)a->k", "* (double)j / (double)a->k",
          ["golden:losses/velocity"]),
    Fault("the latent's mean in the gradient", "kernels/reference/latent.c", "/ norm - mean +", "/ norm +", ["golden:losses/velocity"]),
    Fault("the KL divergence's ln n", "kernels/reference/latent.c", "(logits[i] - total + log((double)n));", "(logits[i] - total);",
          ["golden:losses/velocity"]),
    Fault("a derivative of the polynomial", "kernels/reference/schedule.c", ".db = a * t4 / 2 + 2 * b * t3 / 3", ".db = a * t4 / 2 + b * t3 / 3",
          operation("poly_backward") + ["golden:losses/velocity"]),
    Fault("the polynomial's end in gamma'", "kernels/reference/schedule.c", "(float)(span * p.root * p.root / end.p)", "(float)(span * p.root * p.root)",
          ["golden:schedules/poly_fixedend"]),
    Fault("the squashing's second derivative", "kernels/reference/schedule.c", "a->du[i] - du_prime * u", "a->du[i] + du_prime * u",
          operation("dual_squash_backward")),
    Fault("the slope's gradient without gamma'", "kernels/reference/schedule.c", "dw += g * a->t[i / a->d] + h;", "dw += g * a->t[i / a->d];",
          operation("monotone_out_backward")),
    Fault("the sampler's noise", "kernels/reference/sampling.c", "sqrt(sigmoid(gamma_s) * c)", "sqrt(sigmoid(gamma_t) * c)",
          ["golden:sampling/vdm"]),
    Fault("the decoder's bins", "kernels/reference/sampling.c", "ceil((z + 1) * 128 - 1)", "ceil((z + 1) * 128)",
          whole("sampling", "vdm and not softmax")),
    Fault("the decoder's alpha", "kernels/reference/sampling.c", "a->z[i] / sqrt(sigmoid(-gamma))", "a->z[i]",
          operation("decode") + whole("sampling", "softmax")),
    Fault("the time embedding's frequencies", "kernels/reference/features.c", "(double)(half - 1))) : 1;", "(double)half)) : 1;",
          ["golden:layers/embeddings"]),
    Fault("reference: a tap of backward data", "kernels/reference/conv.c", "pixel_at(s, p, 1 - k / 3, 1 - k % 3);", "pixel_at(s, p, k / 3 - 1, 1 - k % 3);",
          operation("conv_backward_data")),
    Fault("reference: attention's scale", "kernels/reference/attention.c", "a->k, first + j) / sqrt((double)c);",
          "a->k, first + j) / (double)c;", operation("attention_forward")),
    Fault("reference: the norm's variance", "kernels/reference/norm.c", "variance / (double)n + EPS", "variance / (double)(n - 1) + EPS",
          operation("norm_forward")),
    Fault("reference: discrete weights", "kernels/reference/bound.c", "steps * expm1(gamma - prime)", "steps * expm1(prime - gamma)",
          operation("bound")),
    Fault("reference: a bias twice", "kernels/reference/dense.c", "(l < k ? value_at(type, a->x, i * k + l) : 1.0)", "(l < k ? value_at(type, a->x, i * k + l) : 2.0)",
          operation("dense_backward_weights")),
    Fault("reference: the average of the old weights", "kernels/reference/optimizer.c", "(1 - a->ema_rate) * (w - a->ema[i])",
          "(1 - a->ema_rate) * (a->w[i] - a->ema[i])", operation("adamw")),
]

WINOGRAD = [
    Fault("Winograd: a sign of the output's transform", "kernels/cpu/winograd.c", "t[4 * i + 1] - t[4 * i + 2] - t[4 * i + 3];",
          "t[4 * i + 1] - t[4 * i + 2] + t[4 * i + 3];", operation("conv_forward")),
    Fault("Winograd: taps not turned", "kernels/cpu/winograd.c", "(turned ? 8 - tap : tap)", "tap", operation("conv_backward_data")),
    Fault("Winograd: a column beyond the image", "kernels/cpu/winograd.c", "x + j < g->shape.width;", "x + j <= g->shape.width;",
          operation("conv_forward")),
    Fault("Winograd: odd sizes written over", "kernels/cpu/winograd.c", "columns = MIN((int64_t)2, g->shape.width - t.x);", "columns = 2;",
          operation("conv_forward")),
    Fault("Winograd: the bias's plane", "kernels/cpu/winograd.c", "vec_load(s->db_strip + c) + v[k][5]", "vec_load(s->db_strip + c) + v[k][6]",
          operation("conv_backward_weights")),
    Fault("Winograd: strips replace each other", "kernels/cpu/winograd.c", "                p.accumulate = true;\n", "",
          operation("conv_backward_weights")),
    Fault("Winograd: the first part twice", "kernels/cpu/winograd.c", "for (int64_t part = 1; part < g->n_parts; part++)",
          "for (int64_t part = 0; part < g->n_parts; part++)", operation("conv_backward_weights")),
    Fault("direct: taps not turned", "kernels/cpu/direct.c", "(size_t)(8 - k) * tap", "(size_t)k * tap", operation("conv_backward_data")),
    Fault("direct: the bias's gradient replaced", "kernels/cpu/direct.c", "r == 0 && bias && a->accumulate &&", "r == 0 && bias && !a->accumulate &&",
          operation("conv_backward_weights")),
    Fault("direct: the residual is not copied", "kernels/cpu/direct.c", "a->residual && a->residual != a->y", "a->residual && a->residual == a->y",
          operation("conv_forward")),
]

CPU = [
    Fault("attention: the scale in the gradient", "kernels/cpu/attention.c", "dp[j] = p[j] * (dp[j] - sum) * scale;",
          "dp[j] = p[j] * (dp[j] - sum);", operation("attention_backward")),
    Fault("attention: tiles replace each other", "kernels/cpu/attention.c", ".accumulate = !first};", ".accumulate = false};",
          operation("attention_backward")),
    Fault("attention: the last image packed", "kernels/cpu/attention.c", "if (image != packed) {", "if (packed < 0) {",
          operation("attention_forward")),
    Fault("norm: a gradient replaced", "kernels/cpu/norm.c", "dx[j] = accumulate ? dx[j] + d : d;", "dx[j] = d;", operation("norm_backward")),
    Fault("norm: dropout's threshold", "kernels/cpu/norm.c", "halves[j] >= threshold", "halves[j] > threshold", operation("norm_forward")),
    Fault("norm: kept values are not scaled", "kernels/cpu/norm.c", "(float)(1.0 / (1.0 - d->rate))", "1", operation("norm_forward")),
    Fault("norm: the addend's gradient", "kernels/cpu/norm.c", " + k3 * s->sum_x[j]", "", operation("norm_backward")),
    Fault("norm: the mean's share", "kernels/cpu/norm.c", "k2 = -rstd * sum / count;", "k2 = rstd * sum / count;", operation("norm_backward")),
    Fault("norm: the second input's channels", "kernels/cpu/norm.c", ".first = at + (side ? s->c_a : 0)", ".first = at",
          operation("norm_forward")),
    Fault("norm: the last image's scale", "kernels/cpu/norm.c", "sum[k] += shares[2 * (image * n->c + j) + k];",
          "sum[k] = shares[2 * (image * n->c + j) + k];", operation("norm_backward")),
    Fault("bound: bins beyond white", "kernels/cpu/bound.c", "                        p = bin > 255 ? 0 : p;\n", "", operation("bound")),
    Fault("bound: a sign in gamma's gradient", "kernels/cpu/bound.c", "weight * e * (d_v - d_v_hat)", "weight * e * (d_v + d_v_hat)",
          operation("bound")),
    Fault("bound: the prior's constant", "kernels/cpu/bound.c", "fast_log(1.0 + e) - 1.0)", "fast_log(1.0 + e))", operation("bound")),
    Fault("bound: gradients not scaled", "kernels/cpu/bound.c", "(float)(c->d_z[j] * a->grad_scale)", "(float)c->d_z[j]", operation("bound")),
    Fault("diffusion: a sign", "kernels/cpu/bound.c", "__builtin_sqrt(var) * rest * eps[i + j] -", "__builtin_sqrt(var) * rest * eps[i + j] +",
          operation("diffuse_backward")),
    Fault("features: a frequency", "kernels/cpu/features.c", " + 128 * two_pi *", " + 64 * two_pi *", operation("fourier_backward")),
    Fault("features: sines and cosines swapped", "kernels/cpu/features.c", "value_store(type, y, 15 * i + 4 + 2 * c, s7);",
          "value_store(type, y, 15 * i + 4 + 2 * c, c7);", operation("fourier_forward")),
    Fault("bf16: the second value of a pair misplaced", "kernels/cpu/simd.h", "round_halves(second), bits_vec) << 16", "round_halves(second), bits_vec) << 15",
          ["kernels:bf16-cpu"]),
    Fault("bf16: weights are not rounded", "kernels/cpu/conv.c", "room[i] = bf16_widen(bf16_round(w[i]));", "room[i] = w[i] * 1.01f;",
          ["kernels:bf16-cpu"]),
    Fault("plans: a little faster is enough", "kernels/host_plans.c", "#define FASTER 0.9 ", "#define FASTER 0.99 ", ["kernels:plans"]),
    Fault("plans: who is there first is not asked", "kernels/host_plans.c", "if (r >= 0 && !find(p, key, w, ways)) {", "if (r >= 0) {",
          ["kernels:plans"]),
    Fault("plans: damaged lines are read", "kernels/host_plans.c", "if ((end && tabs != 1) ||", "if ((end && tabs > 9) ||", ["kernels:plans"]),
    Fault("AdamW: gradients not clipped", "kernels/cpu/optimizer.c", "float g_ = (gradient) * (u).clip; ", "float g_ = (gradient);            ",
          operation("adamw")),
    Fault("AdamW: the average of the old weights", "kernels/cpu/optimizer.c", "(w_ - ema[i])", "(w[i] - ema[i])", operation("adamw")),
    Fault("AdamW: a weight that is not finite", "kernels/cpu/optimizer.c", "a->state->failure = FAILURE_WEIGHT;",
          "a->state->failure = FAILURE_NONE;", FAILING),
    Fault("AdamW: b1 and b2", "kernels/cpu/optimizer.c", ".rest2 = (float)(1 - a->b2),", ".rest2 = (float)(1 - a->b1),", operation("adamw")),
    Fault("the factors' norm: pairs once", "kernels/cpu/optimizer.c", "(column < row ? 2 : 1)", "1.0", operation("adamw")),
    Fault("wide dense: products replace each other", "kernels/cpu/wide.c", "v += s->x[i][d] * w[d];", "v = s->x[i][d] * w[d];",
          operation("wide_dense_forward")),
    Fault("dense: the bias's gradient replaced", "kernels/cpu/dense.c", "a->accumulate ? a->db[j] + sum : sum", "sum",
          operation("dense_backward_weights")),
    Fault("copy: the shift taken off", "kernels/cpu/elementwise.c", "value_load(x_type, x, j) * scale + shift;", "value_load(x_type, x, j) * scale - shift;",
          operation("copy_2d")),
    Fault("the row's mean", "kernels/cpu/elementwise.c", "(float)((double)a->dy[i] / (double)a->n)", "a->dy[i]", operation("row_mean_backward")),
    Fault("an image's values half a bin off", "kernels/cpu/elementwise.c", "((float)x[i] + 0.5f) * 0.0078125f - 1.0f", "(float)x[i] * 0.0078125f - 1.0f",
          operation("encode_image")),
]

HOST = [
    Fault("an operation left out of a replay", "kernels/host_graph.c", "for (size_t i = 0; i < g->n_ops; i++)", "for (size_t i = 1; i < g->n_ops; i++)",
          ["kernels:stream"]),
    Fault("a replay of the first arguments", "kernels/host_graph.c", "g->bytes + g->ops[i].at);", "g->bytes + g->ops[0].at);", ["kernels:stream"]),
    Fault("an operation behind a failed one runs", "kernels/host_graph.c", "if (s->error.code < 0 || s->device->plan_only)",
          "if (s->device->plan_only)", ["kernels:stream"]),
    Fault("the page cache counts as used", "kernels/host_info.c", " - MAX(inactive, (int64_t)0) - MAX(active, (int64_t)0);", ";",
          ["kernels:stream"]),
    Fault("a parent's limit is not asked", "kernels/host_info.c", "while (group[0]) {", "if (group[0]) {", ["kernels:stream"]),
    Fault("memory in KiB", "kernels/host_info.c", "ret->memory_free = available * KIB;", "ret->memory_free = available;", ["kernels:stream"]),
]

SPOOL = ["worker:worker#spool"]
WORKER = [
    Fault("evaluation one step late", "worker/train.c", "t->step % c->steps_per_eval == 0", "(t->step - 1) % c->steps_per_eval == 0", SPOOL),
    Fault("scalars one step late", "worker/train.c", "&s, x->task->step - 1, err", "&s, x->task->step, err", SPOOL),
    Fault("a step beyond what is due", "worker/train.c", "every[i] - x->task->step % every[i]", "every[i] - x->task->step % every[i] + 1", SPOOL),
    Fault("log point off by one", "worker/train.c", "t->step % c->steps_per_logging == 0 ?", "t->step % c->steps_per_logging == 1 ?", SPOOL),
    Fault("no checkpoint at the end", "worker/train.c", "(last || x->checkpoint_asked || t->step", "(x->checkpoint_asked || t->step",
          SPOOL),
    Fault("an old evaluation's number on a checkpoint", "worker/train.c", "x->evaluated == t->step ? x->evaluation.bpd : NAN", "x->evaluation.bpd",
          SPOOL),
    Fault("batches of the evaluation while training", "worker/train.c", "MIN(c->num_steps_eval * c->batch_size_eval,", "MIN(c->num_steps_eval,",
          whole("evaluation", "while_training")),
    Fault("evaluated on what it learns", "worker/train.c", ".split = SPLIT_TEST,", ".split = SPLIT_TRAIN,", whole("evaluation", "while_training")),
    Fault("evaluated with the weights while training", "worker/train.c", ".weights = WEIGHTS_EMA,", ".weights = WEIGHTS_PARAMS,",
          whole("evaluation", "while_training")),
    Fault("samples while training with any latent", "worker/train.c", ".latent = SAMPLING_LATENT_FIXED}", ".latent = c->sampling_latent}",
          whole("sampling", "while_training")),
    Fault("stopped without a checkpoint", "worker/train.c", "                r = save(x, err);\n                return r < 0", "                return r < 0 && r != -ECANCELED",
          ["worker:worker#sigterm"]),
    Fault("a resumed run does not say its evaluation again", "worker/train.c", "if (x->evaluated == t->step && x->evaluator)", "if (x->evaluated == t->step && x->evaluator && !t->step)",
          ["worker:worker#goes_on"]),
    Fault("the rate in images a millisecond", "worker/train.c", "* 1e6 / (double)MAX(x->step_us, 1)", "* 1e3 / (double)MAX(x->step_us, 1)", SPOOL),
    Fault("the time left counts a step as an image", "worker/train.c", "(double)(steps_left(x) * c->batch_size_train) / rate", "(double)steps_left(x) / rate",
          ["worker:worker#sigterm"]),
    Fault("the images of the result", "worker/train.c", "(json_int_t)(t->step * t->config.batch_size_train)", "(json_int_t)t->step", SPOOL),
    Fault("an evaluation of more images than there are", "worker/evaluate.c", "return n ? MIN(n, all) : all;", "return n ? n : all;",
          whole("evaluation", "more_than_there_are")),
    Fault("the table's parts swapped", "worker/evaluate.c", "x->bpd, x->recon, x->latent,", "x->bpd, x->latent, x->recon,", whole("evaluation", "one_image")),
    Fault("the last progress is not told", "worker/reporter.c",
          "struct event e = {.type = EVENT_DONE, .result = (json_t *)result};\n        int x = send_progress(r, err);",
          "struct event e = {.type = EVENT_DONE, .result = (json_t *)result};\n        int x = 0;", SPOOL),
    Fault("the time left of an evaluation", "worker/task.c", "(double)(all - done) / rate", "(double)all / rate", ["worker:worker#evaluate"]),
    Fault("events sent again after they were acknowledged", "worker/channel.c", "ch->sent = ch->end[c.ack];", "ch->sent = 0;", ["worker:channel"]),
    Fault("an acknowledgement of what was not sent", "worker/channel.c", "c.ack > ch->n_events)", "c.ack > ch->n_events + 1)", ["worker:channel"]),
    Fault("the checkpoint command is a stop", "worker/channel.c", "ch->commands.checkpoint = true;", "ch->commands.stop = true;", ["worker:channel"]),
    Fault("two processes of one attempt", "worker/channel.c", "flock(ch->lock_fd, LOCK_EX | LOCK_NB)", "flock(ch->lock_fd, LOCK_SH | LOCK_NB)",
          ["worker:channel"]),
]

EXACT, GAUSSIANS, BATCHES = ["engine:exact"], ["engine:exact#gaussian*"], ["engine:exact#an_image_does*"]
FLOW = [
    Fault("the flow back has the flow's sign", "kernels/reference/flow.c", "w.coefficient *= a->reverse ? -1 : 1;", "w.coefficient *= 1;", operation("drift")),
    Fault("the flow back has its time", "kernels/reference/flow.c", "a->reverse ? 1 - at : at", "at", operation("flow_step")),
    Fault("a drift without its own part of x", "kernels/reference/flow.c", "(w.coefficient * w.x * a->probe[i])", "(0 * a->probe[i])", operation("drift")),
    Fault("a probe for all evaluations where each has its own", "kernels/reference/flow.c", "a->each ? (uint64_t)number : 0", "0", operation("flow_probe")),
    Fault("a fresh trajectory's evaluations counted one short", "kernels/reference/flow.c", "a->stage - (t->fresh ? 0 : 1)", "a->stage - 1", operation("flow_probe")),
    Fault("an Euler step that is not taken", "kernels/reference/flow.c", "a->stage == 2 ? h * a->k[i] : 0", "0", operation("flow_step")),
    Fault("errors without the integral's", "kernels/reference/flow.c", "return sum + squared_ratio(t->h * error, t->l, l_after(t, s), a);", "return sum;",
          operation("flow_step")),
    Fault("a rejected step moves on", "kernels/reference/flow.c", "accepted = norm < 1;", "accepted = norm < 1e9;", operation("flow_step")),
    Fault("the slope at the new point is not kept", "kernels/reference/flow.c", "t->slope[0] = t->slope[s->stages - 1];", "t->slope[0] = t->slope[0];",
          operation("flow_step")),
    Fault("a step beyond the end", "kernels/reference/flow.c", "t->h = fmin(t->h, 1 - t->s);", "t->h = fmin(t->h, 1);", operation("flow_step")),
    Fault("a slot's neighbours in its error", "kernels/reference/flow.c", "a->shared ? all / (double)running : t->error", "all / (double)running",
          operation("flow_step")),
    Fault("results at the slot instead of the place", "kernels/reference/flow.c", "a->results[t->place] =", "a->results[row] =", operation("flow_slots")),
    Fault("repeats are images", "kernels/reference/flow.c", ".index = at / a->repeats,", ".index = at,", operation("flow_slots")),
    Fault("noise beyond three standard deviations", "kernels/reference/flow.c", "fabsf(u) <= 3", "fabsf(u) <= 4", operation("dequantise")),
    Fault("a solver's last weight", "kernels/flow.h", "-2187.0 / 6784, 11.0 / 84}}", "-2187.0 / 6784, 11.0 / 85}}", operation("flow_stage")),
    Fault("a solver's error has a slip", "kernels/flow.h", "-17253.0 / 339200", "-17253.0 / 33920", operation("flow_step")),
    Fault("the probe is drawn at every evaluation only", "engine/exact.c", "if (!v->solve.probe_each)", "if (v->solve.probe_each)", GAUSSIANS),
    Fault("the last slots are not read out", "engine/exact.c", "if (r >= 0 && (!running ||", "if (r >= 0 && (running == 1 ||", EXACT),
    Fault("what is there is computed again", "engine/exact.c", "if (!results[i].n_evaluations)", "if (true)", BATCHES),
    Fault("the mean of weights without their number", "engine/exact.c", "return max + log(sum / (double)n);", "return max + log(sum);", GAUSSIANS),
    Fault("the published constants are the exact ones", "engine/exact.c", "0.9974613, 0.01522", "0.99730020393673979, 0.01522", ["worker:worker#exact_likelihood"]),
    Fault("uniform noise a bit off", "engine/exact.c", "(DIMENSIONS * M_LN2) + 7;", "(DIMENSIONS * M_LN2) + 8;", GAUSSIANS),
    Fault("a flow that fails is a result", "engine/exact.c", "if (x->failed || (x->n_evaluations && !isfinite(x->log_p)))", "if (x->failed > 1)", EXACT),
    Fault("the schedule's derivative is kept for the flow", "engine/model.c", "p->keep = probe;", "p->keep = true;", SAMPLES),
    Fault("a latent with the softmax's place", "engine/model.c", ".k = c->latent_type == LATENT_GUMBEL ? 1 : c->latent_k,", ".k = 1,", ["worker:worker#beside_its_number"]),
    Fault("kept results of another checkpoint", "worker/exact.c", "memcmp(b.data, &h, sizeof h) != 0", "memcmp(b.data, &h, 16) != 0",
          ["worker:worker#goes_on_after_a_kill"]),
    Fault("a film in the order of frames", "worker/sample.c", "(i % film->n_images * film->n_frames + i / film->n_images)", "i", ["worker:worker#samples_are"]),
    Fault("a film that ends a frame before the samples", "engine/sampler.c", "memset(t, 0, (size_t)x->model->pass.m * sizeof *t);", "(void)t;", SAMPLES),
    Fault("images ranked the other way", "worker/inspect.c", "(x->bpd > y->bpd) - (x->bpd < y->bpd)", "(x->bpd < y->bpd) - (x->bpd > y->bpd)",
          ["worker:worker#beside_its_number"]),
    Fault("the diffusion term of a bin before", "kernels/reference/rows.c", "a->sums[2 * bin] += a->scale", "a->sums[2 * (bin ? bin - 1 : 0)] += a->scale",
          operation("time_add")),
    Fault("the cosine's argument", "kernels/reference/schedule.c", "return 2 * log(tan(M_PI * u / 2));", "return log(tan(M_PI * u / 2));", operation("known_gamma")),
    Fault("a known schedule's slope in its own time", "kernels/reference/schedule.c", "(float)(slope * span)", "(float)slope", operation("known_gamma")),
    Fault("a weight of the straight path once", "kernels/reference/schedule.c", "ratio * ratio * (a->gamma_max", "ratio * (a->gamma_max", operation("weigh_rows")),
    Fault("every weight is the likelihood's", "engine/model.c", "p->config->loss_weight != LOSS_WEIGHT_LIKELIHOOD)", "false)", ["engine:gradient#another_weight*"]),
]


def imported(cases):
    return [f"engine:import#{cases}"]


def road(cases):
    return [f"e2e:import#{cases}"]


RECORDS = [
    Fault("a record's length without its checksum", "engine/formats/records.c", "if (!crc_matches(head + sizeof length, head, sizeof length))", "if (false)",
          ["engine:records"]),
    Fault("a record's data without their checksum", "engine/formats/records.c", "if (!crc_matches(data + size, data, size))", "if (false)",
          ["engine:records"]),
    Fault("a checksum rotated the other way", "engine/formats/records.c", "(crc >> 15 | crc << 17)", "(crc << 15 | crc >> 17)", ["engine:records"]),
    Fault("a length is believed", "engine/formats/records.c", "if (length > (uint64_t)(r->bytes - r->done))", "if (false)", ["engine:records"]),
    Fault("a record begins without its head", "engine/formats/records.c", "r->done += (int64_t)(RECORD_HEAD_BYTES + size + RECORD_FOOT_BYTES);",
          "r->done += (int64_t)(size + RECORD_FOOT_BYTES);", ["engine:records"]),
]

IMAGES_FILE = [
    Fault("test images are the first to train on", "engine/data/images.c", "index + (split == SPLIT_TEST ? f->count[SPLIT_TRAIN] : 0)", "index",
          imported("our_own_file_are")),
    Fault("altered images are as good", "engine/data/images.c", "if (strcmp(found, f->digest) != 0)", "if (false)", imported("our_own_file_cut")),
    Fault("a file may be longer than it says", "engine/data/images.c", "if ((int64_t)f->bytes != expected)", "if ((int64_t)f->bytes < expected)",
          imported("our_own_file_cut")),
    Fault("the mean is of test images, too", "engine/data/images.c", "        if (split == SPLIT_TRAIN)\n                image_add",
          "        if (true)\n                image_add", imported("every_layout and C and rows")),
    Fault("the last images of a split are not written", "engine/data/images.c", "if ((r = write_pile(w, SPLIT_TRAIN, err)) < 0 || (r",
          "if ((r", imported("every_layout and C and rows")),
    Fault("the split is not in the digest", "engine/data/images.c", "        digest_counts(digest, f->count);\n", "", imported("our_own_file_are")),
    Fault("a newer version is read", "engine/data/images.c", "if (version != VERSION)", "if (version < VERSION)", imported("our_own_file_cut")),
]

IMPORTS = [
    Fault("the share begins one image late", "engine/import.c", "double before = (double)s->shared * s->import->test_share;",
          "double before = (double)(s->shared + 1) * s->import->test_share;", imported("share_is_exact")),
    Fault("test images at two places", "engine/import.c", "if (s->forced == SPLIT_TRAIN && has[LABEL_TEST])", "if (false)", imported("said_once")),
    Fault("no test images, said at the end", "engine/import.c", "if (has[LABEL_NONE] || !has[LABEL_TEST])", "if (false)", imported("share_is_exact")),
    Fault("names of any bytes", "engine/import.c", "        make_printable(inner.path);\n", "", imported("names_of_any_bytes")),
    Fault("a path fills the header", "engine/import.c", "MIN(strlen(path), PROVENANCE_PATH_MAX)", "strlen(path)", imported("long_paths")),
    Fault("what is unpacked stays", "engine/import.c", "        if (s.has_scratch)\n                (void)file_remove_tree", "        if (false)\n                (void)file_remove_tree",
          ["fuzz:fuzz-archive"]),
    Fault("an archive's member leaves its folder", "engine/data/archive.c", "                if (leaves_its_folder(name))", "                if (false)", imported("reach_out")),
    Fault("only a leading .. is seen", "engine/data/archive.c", "for (const char *p = name; p; p = strchr(p, '/')) {", "for (const char *p = name; p == name; p = strchr(p, '/')) {",
          imported("reach_out")),
    Fault("an archive's links are files", "engine/data/archive.c", "if (archive_entry_hardlink(e) || archive_entry_symlink(e))", "if (archive_entry_symlink(e))",
          imported("reach_out")),
    Fault("the end of the stream is not read", "engine/data/archive.c", "                if (r == ARCHIVE_EOF)\n                        return finish(a, err);",
          "                if (r == ARCHIVE_EOF)\n                        return 0;", imported("broken_archives or archives_cut")),
    Fault("a member that is there twice", "engine/data/archive.c", "O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC", "O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC",
          imported("reach_out")),
    Fault("Fortran's order is C's", "engine/data/numpy_source.c", "                ret_stride[i] = h->fortran ? n : 1;", "                ret_stride[i] = 1;",
          imported("every_layout and F")),
    Fault("planes are rows", "engine/data/numpy_source.c", "ret->stride_c = ret->stride_w * IMAGE_PIXELS;", "ret->stride_c = ret->stride_w;",
          imported("every_layout and flat and C")),
    Fault("an array may be longer than it says", "engine/data/numpy_source.c", "|| size != expected)", "|| size < expected)", imported("arrays_cut")),
    Fault("any type is bytes", "engine/data/numpy_source.c", 'if (strcmp(h->descr, "|u1") != 0 &&', 'if (false &&', imported("other_arrays")),
    Fault("a member is named twice in a header", "engine/data/numpy_source.c", '"shape") && !h->has_shape)', '"shape"))', imported("headers_that_lie")),
    Fault("the first array is taken", "engine/data/numpy_source.c", "if (n > 1 && n_data == 0)", "if (false)", imported("only_array")),
    Fault("an average that rounds down", "engine/data/picture.c", "(sum + area / 2) / area", "sum / area", imported("other_sizes")),
    Fault("the crop is not at the centre", "engine/data/picture.c", ".start = (length - square) * (PARTS / 2)", ".start = 0", imported("other_sizes")),
    Fault("a damaged JPEG is made up for", "engine/data/picture.c", "        if (level < 0)\n                jpeg_failed(jpeg);", "        if (level < -1)\n                jpeg_failed(jpeg);",
          imported("damaged_jpegs or images_cut")),
    Fault("the end of a PNG is not read", "engine/data/picture.c", "        png_read_end(p->png, NULL);\n", "", imported("images_cut")),
    Fault("four colours are three", "engine/data/picture.c", "if (p->jpeg.num_components == 4)", "if (false)", imported("four_colours")),
    Fault("16 bits are cut to 8", "engine/data/picture.c", "png_set_scale_16(p->png);", "png_set_strip_16(p->png);", imported("png_suite"),
          equivalent="one of 255 at most, which the test allows: both are what PNG decoders do"),
    Fault("records of another size are resized", "engine/data/tfrecord_source.c", "image->len, false, ret", "image->len, true, ret", imported("no_images_are_named")),
    Fault("a part is missing at the end", "engine/data/tfrecord_source.c", "return r < 0 ? r : check_next(&before, &none, file, err);", "return r;",
          imported("parts_that_do_not")),
    Fault("a part is missing between others", "engine/data/tfrecord_source.c", "if (p->number != expected ||", "if (", imported("parts_that_do_not")),
    Fault("validation images are trained on", "engine/data/tfrecord_source.c", '|| !strcmp(p->split, "validation"))\n                *ret = LABEL_TEST;', ')\n                *ret = LABEL_TEST;',
          imported("tfds_names")),
    Fault("links are followed", "engine/data/files.c", "if (S_ISLNK(st.st_mode) && (l->deep || l->wanted(name)))", "if (false)", imported("lead_elsewhere or published_is")),
    Fault("batch 10 before batch 2", "engine/data/files.c", "return strverscmp(*x, *y);", "return strcmp(*x, *y);", imported("published_is_a_folder or tfds_names or folders_train")),
    Fault("training images are never mirrored", "kernels/reference/rows.c", "        if (!a->flip)\n                return false;", "        if (true)\n                return false;", operation("gather")),
    Fault("mirrored top to bottom", "kernels/reference/rows.c", "a->width - 1 - p % a->width)", "p % a->width)", operation("gather")),
    Fault("evaluations are mirrored, too", "engine/batch.c", ".flip = b->flip ? p->state : NULL", ".flip = p->state", whole("evaluation", "one_image")),
    Fault("data.flip is not heard", "engine/trainer.c", "        t->memory.flip = rt->config->flip;\n", "", whole("training", "flip")),
]

ROAD = [
    Fault("what is broken is tried again", "worker/import.c", "return is_machines(r) ? r : -ESTALE;", "return -EIO;", road("broken_is_named")),
    Fault("a folder beside an allowed one", "daemon/import.c", "(!path[n] || path[n] == '/' ||", "(path[n] != '\\1' ||", road("only_allowed")),
    Fault("links out of an allowed folder", "daemon/import.c", "        if (!is_allowed(d, path))\n", "        if (!is_allowed(d, given))\n", road("only_allowed")),
    Fault("a name is taken only when it is there", "daemon/import.c", "coming = d->queue.jobs[i]->kind == JOB_IMPORT &&", "coming = d->queue.jobs[i]->kind == JOB_TRAIN &&",
          road("given_once")),
    Fault("data in use are removed", "daemon/import.c", "        user = user_of(op);\n", "        user = 0;\n", road("given_once")),
    Fault("data of the command line are removed", "daemon/import.c", "if (!s->row.imported)", "if (false)", road("given_once")),
    Fault("an import waits for its data", "daemon/daemon.c", "j->kind == JOB_IMPORT || daemon_dataset(d, j->dataset)", "daemon_dataset(d, j->dataset)", road("trained_on_at_once")),
    Fault("imported data are on the list at the next start", "daemon/worker.c", "                        datasets_imported(w->daemon, w->job->dataset, e->result);\n",
          "                        (void)0;\n", road("trained_on_at_once")),
    Fault("imported data are gone at the next start", "daemon/datasets.c", "        add_imported(d);\n", "", road("trained_on_at_once")),
    Fault("an import runs again under a name that is taken", "daemon/control.c", "if (row->kind == JOB_IMPORT)", "if (false)", road("cancelled_import")),
    Fault("what a killed import left stays", "worker/task.c", '"csv", "images", NULL}', '"csv", NULL}', road("killed_import")),
]

def published(cases):
    return [f"e2e:published#{cases}"]


PUBLISHED_ROAD = [
    Fault("an imported checkpoint has no trainer's state", "worker/import_checkpoint.c", 'json_pack("{s:{}}", "trainer");', 'json_object();', published("trained_further")),
    Fault("an imported checkpoint is at step 0", "worker/import_checkpoint.c", 'name, sizeof name, "step-%lld.safetensors", (long long)x->step);',
          'name, sizeof name, "step-%lld.safetensors", 0LL);', published("trained_further")),
    Fault("times of events in seconds", "worker/import_events.c", "double ms = wall * 1000;", "double ms = wall;", published("go_out_again")),
    Fault("logs that are cut are an error", "worker/import_events.c", "                x->cut = true;\n                r = 0;\n", "                x->cut = true;\n",
          published("cut_or_altered")),
    Fault("every file of a folder is an event file", "worker/import_events.c", 'if (!strstr(e->d_name, "tfevents") ||', "if (", published("cut_or_altered")),
    Fault("a tag's last points are lost", "worker/import_events.c", "                r = flush(&x, x.tags[i], err);\n", "                r = 0;\n", published("go_out_again")),
    Fault("a tag's first points are lost", "worker/import_events.c", "return ++g->n == ROWS ? flush(x, g, err) : 0;", "return (g->n = (g->n + 1) % ROWS), 0;",
          published("go_out_again")),
    Fault("any bytes are an image", "worker/import_events.c", "!memcmp(v->image, signature, sizeof signature);", "v->image != NULL;", published("go_out_again")),
    Fault("events may have a configuration", "api/submit.c", 'if (json_object_get(body, i ? "overrides" : "config"))', "if (false)", published("asked_for_rightly")),
    Fault("imported logs have checkpoints", "daemon/submit.c", "(source.kind != JOB_IMPORT || !json_object_size(source.config))", "source.kind != JOB_IMPORT",
          published("go_out_again")),
    Fault("an import's configuration is lost", "daemon/import.c", "        op->config = TAKE_PTR(op->submission->config);\n", "", published("trained_further")),
    Fault("images do not go out", "api/export.c", "while (r >= 0 && !b->size && x->n_images)", "while (false)", published("go_out_again")),
]

FAULTS = (TRAINER + LIKELIHOOD + SAMPLER + OPTIMIZER + MODEL + PASS + SCHEDULE + PARAMS + TAPE + OPERATIONS + NETWORKS + RUNTIME + CHECKPOINT + FORMATS
          + PHILOX + ROWS + STEPS + REFERENCE + WINOGRAD + CPU + HOST + WORKER + FLOW + RECORDS + IMAGES_FILE + IMPORTS + ROAD + PUBLISHED_ROAD)
