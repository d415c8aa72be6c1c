/* What a caller's ear counts, as types whose numbers are plain attributes: the bases of the Python classes (voxload.inlet). */
#ifndef VOXLOAD_NUMBERS_H
#define VOXLOAD_NUMBERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>

typedef struct {
    PyObject_HEAD
    long long bytes_received, frames_received;
} InboundNumbers;

typedef struct {
    PyObject_HEAD
    long long buffer_ns, end_ns, spurts, underrun_ns, underruns;
} PlayoutNumbers;

typedef struct {
    PyObject_HEAD
    PyObject *rest, *history; /* bytes */
    long long rate_hz, window_bytes, window_ns, close_ns, close_level, run, next_ns, onset_ns, last_active_ns, opened;
    char speaking;
} DetectorNumbers;

typedef struct {
    PyObject_HEAD
    PyObject *mulaw; /* the samples of all µ-law bytes as 512 bytes, or None for 16-bit samples */
    long long rate_hz, quiet, since_ns, first_sound_ns, heard_ns, last_start_ns, opened;
} EarNumbers;

typedef struct {
    PyObject_HEAD
    long long scaled, transit_ns, pairs, kept_scaled, kept_pairs;
    char started;
} JitterNumbers;

typedef struct {
    PyObject_HEAD
    long long buffer_ns, frames, late, runs, deadline_ns;
    char anchored, in_run;
} LateNumbers;

typedef struct {
    PyObject_HEAD
    long long burst_ns, full_scale, packets, clipped, spurts, underruns;
} MeterNumbers;

#define NUMBER(type, member, name) {name, T_LONGLONG, offsetof(type, member), 0, NULL}
#define TRUTH(type, member, name) {name, T_BOOL, offsetof(type, member), 0, NULL}
#define OBJECT(type, member, name) {name, T_OBJECT_EX, offsetof(type, member), 0, NULL}
#define NUMBERS_TYPE(type, ending, destroy)                                                                                \
    static PyTypeObject type##Type = {                                                                                     \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                     \
        .tp_name = "voxload._inlet." #type,                                                                                \
        .tp_basicsize = sizeof(type),                                                                                      \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,                                                              \
        .tp_new = PyType_GenericNew,                                                                                       \
        .tp_dealloc = destroy,                                                                                             \
        .tp_members = ending,                                                                                              \
    }

static PyMemberDef inbound_members[] = {
    NUMBER(InboundNumbers, bytes_received, "bytes_received"),
    NUMBER(InboundNumbers, frames_received, "frames_received"),
    {NULL},
};
NUMBERS_TYPE(InboundNumbers, inbound_members, NULL);

static PyMemberDef playout_members[] = {
    NUMBER(PlayoutNumbers, buffer_ns, "buffer_ns"),
    NUMBER(PlayoutNumbers, end_ns, "end_ns"),
    NUMBER(PlayoutNumbers, spurts, "spurts"),
    NUMBER(PlayoutNumbers, underrun_ns, "underrun_ns"),
    NUMBER(PlayoutNumbers, underruns, "underruns"),
    {NULL},
};
NUMBERS_TYPE(PlayoutNumbers, playout_members, NULL);

static PyMemberDef detector_members[] = {
    OBJECT(DetectorNumbers, rest, "_rest"),
    OBJECT(DetectorNumbers, history, "_history"),
    NUMBER(DetectorNumbers, rate_hz, "_rate_hz"),
    NUMBER(DetectorNumbers, window_bytes, "_window_bytes"),
    NUMBER(DetectorNumbers, window_ns, "_window_ns"),
    NUMBER(DetectorNumbers, close_ns, "_close_ns"),
    NUMBER(DetectorNumbers, close_level, "_close_level"),
    NUMBER(DetectorNumbers, run, "_run"),
    NUMBER(DetectorNumbers, next_ns, "_next_ns"),
    NUMBER(DetectorNumbers, onset_ns, "onset_ns"),
    NUMBER(DetectorNumbers, last_active_ns, "last_active_ns"),
    NUMBER(DetectorNumbers, opened, "opened"),
    TRUTH(DetectorNumbers, speaking, "speaking"),
    {NULL},
};

/* The bases are no part of garbage collection: they hold bytes and None, which lead nowhere. */
static void detector_dealloc(PyObject *object) {
    DetectorNumbers *self = (DetectorNumbers *)object;
    Py_CLEAR(self->rest);
    Py_CLEAR(self->history);
    Py_TYPE(object)->tp_free(object);
}
NUMBERS_TYPE(DetectorNumbers, detector_members, detector_dealloc);

static PyMemberDef ear_members[] = {
    OBJECT(EarNumbers, mulaw, "_mulaw"),
    NUMBER(EarNumbers, rate_hz, "_rate_hz"),
    NUMBER(EarNumbers, quiet, "_quiet"),
    NUMBER(EarNumbers, since_ns, "_since_ns"),
    NUMBER(EarNumbers, first_sound_ns, "first_sound_ns"),
    NUMBER(EarNumbers, heard_ns, "heard_ns"),
    NUMBER(EarNumbers, last_start_ns, "last_start_ns"),
    NUMBER(EarNumbers, opened, "_opened"),
    {NULL},
};

static void ear_dealloc(PyObject *object) {
    Py_CLEAR(((EarNumbers *)object)->mulaw);
    Py_TYPE(object)->tp_free(object);
}
NUMBERS_TYPE(EarNumbers, ear_members, ear_dealloc);

static PyMemberDef jitter_members[] = {
    NUMBER(JitterNumbers, scaled, "_scaled"),
    NUMBER(JitterNumbers, transit_ns, "_transit_ns"),
    NUMBER(JitterNumbers, pairs, "pairs"),
    NUMBER(JitterNumbers, kept_scaled, "_kept_scaled"),
    NUMBER(JitterNumbers, kept_pairs, "_kept_pairs"),
    TRUTH(JitterNumbers, started, "_started"),
    {NULL},
};
NUMBERS_TYPE(JitterNumbers, jitter_members, NULL);

static PyMemberDef late_members[] = {
    NUMBER(LateNumbers, buffer_ns, "buffer_ns"),
    NUMBER(LateNumbers, frames, "frames"),
    NUMBER(LateNumbers, late, "late"),
    NUMBER(LateNumbers, runs, "runs"),
    NUMBER(LateNumbers, deadline_ns, "_deadline_ns"),
    TRUTH(LateNumbers, anchored, "_anchored"),
    TRUTH(LateNumbers, in_run, "_in_run"),
    {NULL},
};
NUMBERS_TYPE(LateNumbers, late_members, NULL);

static PyMemberDef meter_members[] = {
    NUMBER(MeterNumbers, burst_ns, "_burst_ns"),
    NUMBER(MeterNumbers, full_scale, "_full_scale"),
    NUMBER(MeterNumbers, packets, "_packets"),
    NUMBER(MeterNumbers, clipped, "_clipped"),
    NUMBER(MeterNumbers, spurts, "_spurts"),
    NUMBER(MeterNumbers, underruns, "_underruns"),
    {NULL},
};
NUMBERS_TYPE(MeterNumbers, meter_members, NULL);

#endif
