/* The slots of the timing wheel in C: voxload.ring holds the same class in Python, for where this was not compiled.
 *
 * Both are held to the same tests. A slot is an array of (deadline, callback) that keeps its memory, so that a periodic
 * callback costs no allocation and nothing for the garbage collector to look at.
 */
#include "_native.h"
#include <structmember.h>
#include <sys/timerfd.h>
#include <unistd.h>

typedef struct {
    int64_t due_ns;
    PyObject *callback;
} Item;

typedef struct {
    Item *items;
    Py_ssize_t count, room;
} Slot;

typedef struct {
    PyObject_HEAD
    Slot *slots;
    int64_t slot_ns, tick, size; /* size: a power of two */
    long long armed_ns, limit;   /* as in voxload.ring */
    Py_ssize_t pending;
} Ring;

static int ring_init(Ring *self, PyObject *args, PyObject *Py_UNUSED(words)) {
    long long slot_ns, size, tick;
    if (!PyArg_ParseTuple(args, "LLL:Ring", &slot_ns, &size, &tick)) return -1;
    if (slot_ns <= 0 || size <= 0 || (size & (size - 1)) || self->slots)
        return PyErr_SetString(PyExc_ValueError, "slots must be a power of two"), -1;
    self->slots = PyMem_Calloc((size_t)size, sizeof(Slot));
    if (!self->slots) return PyErr_NoMemory(), -1;
    self->slot_ns = slot_ns, self->size = size, self->tick = tick, self->limit = INT64_MAX;
    return 0;
}

static int ring_traverse(Ring *self, visitproc visit, void *arg) {
    for (int64_t at = 0; self->slots && at < self->size; at++)
        for (Py_ssize_t n = 0; n < self->slots[at].count; n++) Py_VISIT(self->slots[at].items[n].callback);
    return 0;
}

static int ring_clear(Ring *self) {
    for (int64_t at = 0; self->slots && at < self->size; at++) {
        Slot old = self->slots[at];
        self->slots[at] = (Slot){0};
        for (Py_ssize_t n = 0; n < old.count; n++) Py_DECREF(old.items[n].callback);
        PyMem_Free(old.items);
    }
    self->pending = 0;
    return 0;
}

static void ring_dealloc(Ring *self) {
    PyObject_GC_UnTrack(self);
    ring_clear(self);
    PyMem_Free(self->slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Keep a callback (a new reference of it) by its deadline; 1: kept, 0: beyond the horizon, -1: an exception. */
static int keep(Ring *self, int64_t due_ns, PyObject *callback) {
    int64_t tick = due_ns / self->slot_ns + (due_ns % self->slot_ns > 0); /* the slot at or after it */
    if (tick <= self->tick) tick = self->tick + 1;
    if (tick - self->tick >= self->size) return 0;
    Slot *slot = &self->slots[tick & (self->size - 1)];
    if (slot->count == slot->room) {
        Py_ssize_t room = slot->room ? 2 * slot->room : 4;
        Item *grown = PyMem_Realloc(slot->items, (size_t)room * sizeof *grown);
        if (!grown) return PyErr_NoMemory(), -1;
        slot->items = grown, slot->room = room;
    }
    slot->items[slot->count++] = (Item){due_ns, Py_NewRef(callback)};
    self->pending++;
    return 1;
}

static PyObject *ring_put(Ring *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) return PyErr_SetString(PyExc_TypeError, "put(due_ns, callback)"), NULL;
    int64_t due_ns = PyLong_AsLongLong(args[0]);
    if (due_ns == -1 && PyErr_Occurred()) return NULL;
    int kept = keep(self, due_ns, args[1]);
    return kept < 0 ? NULL : PyBool_FromLong(kept);
}

/* --- Timed --- */

static PyObject *timed_call(Timed *self, PyObject *args, PyObject *words) {
    long long due_ns;
    if (words && PyDict_GET_SIZE(words)) return PyErr_SetString(PyExc_TypeError, "no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "L", &due_ns)) return NULL;
    int64_t next_ns = self->due((PyObject *)self, due_ns);
    return next_ns == -1 && PyErr_Occurred() ? NULL : PyLong_FromLongLong(next_ns);
}

static PyTypeObject TimedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload._ring.Timed",
    .tp_basicsize = sizeof(Timed),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The base of callbacks that are written in C: due(due_ns) -> the next deadline, or 0.",
    .tp_call = (ternaryfunc)timed_call,
};

/* --- Ring --- */

static int64_t call(PyObject *callback, int64_t due_ns) {
    if (PyObject_TypeCheck(callback, &TimedType)) return ((Timed *)callback)->due(callback, due_ns);
    PyObject *due = PyLong_FromLongLong(due_ns);
    PyObject *next = due ? PyObject_CallOneArg(callback, due) : NULL;
    Py_XDECREF(due);
    int64_t next_ns = next ? PyLong_AsLongLong(next) : -1;
    Py_XDECREF(next);
    return next_ns;
}

/* Run one callback and keep it for its next deadline; -1 on an exception that nobody takes. */
static int run_one(Ring *self, Item item, PyObject *far, PyObject *failed) {
    int64_t next_ns = call(item.callback, item.due_ns);
    if (next_ns == -1 && PyErr_Occurred()) {
        if (failed == Py_None || !PyErr_ExceptionMatches(PyExc_Exception)) return -1;
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        if (trace) PyException_SetTraceback(error, trace);
        PyObject *told = PyObject_CallFunctionObjArgs(failed, item.callback, error, NULL);
        Py_XDECREF(type), Py_XDECREF(error), Py_XDECREF(trace);
        Py_XDECREF(told);
        return told ? 0 : -1;
    }
    if (!next_ns) return 0;
    int kept = keep(self, next_ns, item.callback);
    if (kept) return kept < 0 ? -1 : 0;
    PyObject *told = PyObject_CallFunction(far, "LO", (long long)next_ns, item.callback);
    Py_XDECREF(told);
    return told ? 0 : -1;
}

static void prefetch(const void *object) {
    for (int line = 0; line < 3; line++) __builtin_prefetch((const char *)object + 64 * line);
}

static int run(Ring *self, int64_t to_tick, PyObject *far, PyObject *failed) {
    while (self->tick < to_tick) {
        self->tick++;
        Slot *slot = &self->slots[self->tick & (self->size - 1)];
        if (!slot->count) continue;
        Slot due = *slot; /* what its callbacks add belongs to other slots, or to this one a whole turn later */
        *slot = (Slot){0};
        self->pending -= due.count;
        int broken = 0;
        for (Py_ssize_t n = 0; n < due.count; n++) {
            /* with thousands of calls each is in slow memory: have the next but one fetched meanwhile */
            if (n + 2 < due.count) prefetch(due.items[n + 2].callback);
            if (!broken) broken = run_one(self, due.items[n], far, failed) < 0;
            Py_DECREF(due.items[n].callback);
        }
        if (slot->items) {
            PyMem_Free(due.items);
        } else {
            slot->items = due.items, slot->room = due.room; /* its memory serves the next turn */
        }
        if (broken) return -1;
    }
    return 0;
}

static PyObject *ring_run(Ring *self, PyObject *args) {
    long long to_tick;
    PyObject *far, *failed;
    if (!PyArg_ParseTuple(args, "LOO:run", &to_tick, &far, &failed)) return NULL;
    if (run(self, to_tick, far, failed) < 0) return NULL;
    Py_RETURN_NONE;
}

static int64_t next_tick(Ring *self) {
    if (self->pending)
        for (int64_t tick = self->tick + 1; tick < self->tick + self->size; tick++)
            if (self->slots[tick & (self->size - 1)].count) return tick;
    return -1;
}

static PyObject *ring_next_tick(Ring *self, PyObject *Py_UNUSED(none)) { return PyLong_FromLongLong(next_tick(self)); }

static PyMethodDef ring_methods[] = {
    {"put", (PyCFunction)(void (*)(void))ring_put, METH_FASTCALL, "put(due_ns, callback) -> whether it is within the horizon."},
    {"run", (PyCFunction)ring_run, METH_VARARGS, "run(to_tick, far, failed): run every slot up to a tick."},
    {"next_tick", (PyCFunction)ring_next_tick, METH_NOARGS, "next_tick() -> the next slot that is not empty, or -1."},
    {NULL},
};

static PyMemberDef ring_members[] = {
    {"tick", T_LONGLONG, offsetof(Ring, tick), READONLY, "The last slot that has been run."},
    {"armed_ns", T_LONGLONG, offsetof(Ring, armed_ns), 0, "When the driver will come next."},
    {"limit", T_LONGLONG, offsetof(Ring, limit), 0, "The last slot that may be run before the wheel has looked at its heap."},
    {"pending", T_PYSSIZET, offsetof(Ring, pending), READONLY, "How many callbacks wait."},
    {NULL},
};

static PyTypeObject RingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload._ring.Ring",
    .tp_basicsize = sizeof(Ring),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Ring(slot_ns, slots, tick): callbacks by deadline within the horizon.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)ring_init,
    .tp_dealloc = (destructor)ring_dealloc,
    .tp_traverse = (traverseproc)ring_traverse,
    .tp_clear = (inquiry)ring_clear,
    .tp_methods = ring_methods,
    .tp_members = ring_members,
};

/* --- Alarm: a timer descriptor that runs the slots (timerfd_create(2)) --- */

typedef struct {
    PyObject_HEAD
    int fd;
    Ring *ring;
    PyObject *far, *failed, *slow;
} Alarm;

static PyObject *alarm_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(words)) {
    PyObject *ring, *far, *failed, *slow;
    if (!PyArg_ParseTuple(args, "O!OOO:Alarm", &RingType, &ring, &far, &failed, &slow)) return NULL;
    Alarm *self = (Alarm *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->ring = (Ring *)Py_NewRef(ring);
    self->far = Py_NewRef(far), self->failed = Py_NewRef(failed), self->slow = Py_NewRef(slow);
    self->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (self->fd >= 0) return (PyObject *)self;
    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(self);
    return NULL;
}

static int alarm_traverse(Alarm *self, visitproc visit, void *arg) {
    Py_VISIT(self->ring);
    Py_VISIT(self->far);
    Py_VISIT(self->failed);
    Py_VISIT(self->slow);
    return 0;
}

static PyObject *alarm_close(Alarm *self, PyObject *Py_UNUSED(none)) {
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
    Py_RETURN_NONE;
}

static int alarm_clear(Alarm *self) {
    Py_CLEAR(self->ring);
    Py_CLEAR(self->far);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->slow);
    return 0;
}

static void alarm_dealloc(Alarm *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(alarm_close(self, NULL));
    alarm_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *alarm_fileno(Alarm *self, PyObject *Py_UNUSED(none)) { return PyLong_FromLong(self->fd); }

/* Ring at an instant; 0: never. What was rung before is forgotten. */
static void set(Alarm *self, int64_t due_ns) {
    struct itimerspec at = {.it_value = {.tv_sec = due_ns / NS_PER_S, .tv_nsec = due_ns % NS_PER_S}};
    timerfd_settime(self->fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static PyObject *alarm_set(Alarm *self, PyObject *due) {
    long long due_ns = PyLong_AsLongLong(due);
    if (due_ns == -1 && PyErr_Occurred()) return NULL;
    if (self->fd >= 0) set(self, due_ns < 0 ? 1 : due_ns);
    Py_RETURN_NONE;
}

/* As the wheel's `advance` and what arms the timer after it, while neither needs the heap. */
static PyObject *alarm_call(Alarm *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(words)) {
    Ring *ring = self->ring;
    if (self->fd < 0 || !ring) Py_RETURN_NONE;
    int64_t tick = now_ns() / ring->slot_ns;
    if (tick > ring->limit || tick - ring->tick >= ring->size) return PyObject_CallNoArgs(self->slow);
    ring->armed_ns = 0; /* what callbacks add needs no wake-up: the timer is set afterwards */
    int broken = run(ring, tick, self->far, self->failed) < 0;
    int64_t next = next_tick(ring);
    if (self->fd < 0) return broken ? NULL : Py_NewRef(Py_None); /* a callback has closed it */
    if (broken || next < 0 || ring->limit <= ring->tick) { /* nothing to do, or the heap may know something sooner */
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyObject *done = PyObject_CallNoArgs(self->slow);
        if (!type) return done;
        Py_XDECREF(done);
        PyErr_Restore(type, error, trace);
        return NULL;
    }
    ring->armed_ns = next * ring->slot_ns;
    set(self, ring->armed_ns);
    Py_RETURN_NONE;
}

static PyMethodDef alarm_methods[] = {
    {"fileno", (PyCFunction)alarm_fileno, METH_NOARGS, "fileno(): the timer descriptor."},
    {"set", (PyCFunction)alarm_set, METH_O, "set(due_ns): ring at that instant of the monotonic clock; 0: never."},
    {"close", (PyCFunction)alarm_close, METH_NOARGS, "close(): give the descriptor back."},
    {NULL},
};

static PyTypeObject AlarmType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload._ring.Alarm",
    .tp_basicsize = sizeof(Alarm),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Alarm(ring, far, failed, slow): called when its descriptor can be read, runs the slots that are due.",
    .tp_new = alarm_new,
    .tp_dealloc = (destructor)alarm_dealloc,
    .tp_traverse = (traverseproc)alarm_traverse,
    .tp_clear = (inquiry)alarm_clear,
    .tp_call = (ternaryfunc)alarm_call,
    .tp_methods = alarm_methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload._ring", .m_size = -1};

PyMODINIT_FUNC PyInit__ring(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &TimedType) < 0 || PyModule_AddType(made, &RingType) < 0 ||
                 PyModule_AddType(made, &AlarmType) < 0 || add_build(made) < 0))
        Py_CLEAR(made);
    return made;
}
