/* What the C parts of different modules share: the clock, and objects that begin with a function in C. */
#ifndef VOXLOAD_NATIVE_H
#define VOXLOAD_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_S 1000000000LL

/* As `voxload.clock.monotonic_ns`. */
static inline int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * NS_PER_S + at.tv_nsec;
}

/* `voxload._ring.Timed`, the base of what the wheel calls without the interpreter: as Python calls it, due(due_ns). */
typedef struct {
    PyObject_HEAD
    int64_t (*due)(PyObject *self, int64_t due_ns); /* the next deadline, or 0; -1: an exception */
} Timed;

/* `voxload.dialects._splice.Splice`: writes a message around what was prepared. */
typedef struct {
    PyObject_HEAD
    size_t room; /* no message is longer than this and what was prepared */
    size_t (*write)(PyObject *self, const char *prepared, size_t size, int64_t sequence, int64_t unix_ns, unsigned char *out);
} Spliced;

/* `voxload._inlet.Inlet`: takes a whole message, if it is plain audio. */
typedef struct {
    PyObject_HEAD
    /* 1: done; 0: nothing was changed, Python must do it; -1: an exception */
    int (*take)(PyObject *self, const unsigned char *payload, Py_ssize_t size, int text, int64_t arrival_ns);
} Taker;

/* Tells the sources from which a module was compiled: those of one place must not read each other's objects else. */
#ifndef VOXLOAD_BUILD
#define VOXLOAD_BUILD "by hand"
#endif

static inline int add_build(PyObject *module) { return PyModule_AddStringConstant(module, "BUILD", VOXLOAD_BUILD); }

/* Return a type of another module (a new reference), or NULL with an exception: an ImportError if it is of another build. */
static inline PyTypeObject *type_of_module(const char *module, const char *name) {
    PyObject *found = PyImport_ImportModule(module);
    PyObject *build = found ? PyObject_GetAttrString(found, "BUILD") : NULL;
    int same = build && PyUnicode_Check(build) && !PyUnicode_CompareWithASCIIString(build, VOXLOAD_BUILD);
    if (found && !same) PyErr_Format(PyExc_ImportError, "%s was compiled from other sources: install voxload again", module);
    PyObject *type = same ? PyObject_GetAttrString(found, name) : NULL;
    Py_XDECREF(build);
    Py_XDECREF(found);
    if (type && !PyType_Check(type)) {
        PyErr_Format(PyExc_TypeError, "%s.%s is no type", module, name);
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

#endif
