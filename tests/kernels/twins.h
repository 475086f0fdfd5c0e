/* Second ways to compute what "cpu" takes from the reference: values of one element, in double. */
#pragma once

#include <stdint.h>

double twin_sine_of(double g, double offset, double scale, int64_t i, int64_t n); /* value i of n of a time embedding */
double twin_poly(double a, double b, double c_raw, double t, double gamma_min, double gamma_max);
double twin_poly_prime(double a, double b, double c_raw, double t, double gamma_min, double gamma_max);
double twin_squash(double p);
/* A row: e [n], |y| and the KL. noise [n] as added, or NULL. */
void twin_topk(const float *logits, const double *noise, int64_t n, int64_t k, double *ret_e, double *ret_norm,
               double *ret_kl);
double twin_ancestral(int p, double gamma_t, double gamma_s, double z, double net, double eps);
int twin_decode(double z, double gamma, const float *u); /* u: NULL for the arg max */
