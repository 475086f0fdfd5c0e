/* The solvers of the probability flow: explicit Runge-Kutta pairs whose last stage is the new point, so that its slope
 * is the next step's first (FSAL). Stage 0 is at the old point; the last stage's row of `a` is the step itself. */
#pragma once

#define FLOW_STAGES 7 /* at most */

enum flow_solver {
        FLOW_DORMAND_PRINCE,  /* 5(4): Dormand & Prince 1980 */
        FLOW_TSITOURAS,       /* 5(4): Tsitouras 2011 */
        FLOW_BOGACKI_SHAMPINE /* 3(2): Bogacki & Shampine 1989 */
};

struct flow_tableau {
        int stages;
        int order; /* of the error: the step size goes with its root */
        double c[FLOW_STAGES], a[FLOW_STAGES][FLOW_STAGES - 1];
        double error[FLOW_STAGES]; /* the step's weights less those of the lower order */
};

/* By enum flow_solver: stages, order, c, a, error (in order of the members, as C++ takes it too). */
static const struct flow_tableau flow_tableaus[] = {
        {7,
         5,
         {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1},
         {{0},
          {1.0 / 5},
          {3.0 / 40, 9.0 / 40},
          {44.0 / 45, -56.0 / 15, 32.0 / 9},
          {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
          {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
          {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}},
         {71.0 / 57600, 0, -71.0 / 16695, 71.0 / 1920, -17253.0 / 339200, 22.0 / 525, -1.0 / 40}},
        {7,
         5,
         {0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1},
         {{0},
          {0.161},
          {-0.008480655492356989, 0.335480655492357},
          {2.8971530571054935, -6.359448489975075, 4.3622954328695815},
          {5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525},
          {5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383},
          {0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774}},
         {-0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
          0.5823571654525552, -0.45808210592918697, 0.015151515151515152}},
        {4,
         3,
         {0, 1.0 / 2, 3.0 / 4, 1},
         {{0}, {1.0 / 2}, {0, 3.0 / 4}, {2.0 / 9, 1.0 / 3, 4.0 / 9}},
         {-5.0 / 72, 1.0 / 12, 1.0 / 9, -1.0 / 8}},
};
