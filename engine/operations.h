/* The table of operations: what a node of each kind does. */
#pragma once

#include "engine/tape.h"

struct operation {
        unsigned reads;         /* inputs whose values backward reads, bit by bit; */
        unsigned reads_weights; /* those that only the weights' gradient reads */
        bool reads_output;
        unsigned adds; /* inputs to whose gradient backward can add; others are written to a place of their own first */
        int residual;  /* input that is added to the output, or -1: its gradient is the output's */
        bool in_place; /* the input's gradient may be written over the output's */

        const struct plan *(*plan)(struct pass *p, const struct tensor *y); /* tensor.plan, or NULL: none of its own */
        size_t (*kept)(struct pass *p, const struct tensor *y);             /* bytes of tensor.kept, or NULL: none */
        double (*flop)(const struct tensor *y); /* of an image forward, a multiply-add as two, or NULL: none worth it */
        void (*forward)(struct pass *p, struct tensor *y);
        void (*weights)(struct pass *p,
                        struct tensor *y); /* gradients of the parameters, or NULL: in backward or none */
        /* dx[i]: where in[i]'s gradient goes, NULL where it is not wanted; a residual's is not among them */
        void (*backward)(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                         const bool add[TENSOR_INPUTS]);
};

extern const struct operation operation_conv, operation_dense, operation_norm, operation_attention, operation_swish,
        operation_relu, operation_fourier, operation_time;
