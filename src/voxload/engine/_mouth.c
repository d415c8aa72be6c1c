/* The caller's mouth in C: what voxload.engine.mouth does for every frame, without the interpreter in between.
 *
 * Optional: where it was not compiled, the Python classes of the same names do the work. Both are held to the same tests.
 * A Ledger is what the frames of a process leave behind; a Mouth sends the frames of one call: stamps one (by the dialect's
 * own Python function, or by a layout in C), masks it (RFC 6455, 5.3) and hands it to the kernel. While the socket is not its own to write to
 * (TLS, or the event loop still holds older bytes), `fd` is -1 and frames go through the line.
 */
#include "../_native.h"
#include "_frame.h"
#include <errno.h>
#include <sys/socket.h>

static PyTypeObject *splice_type; /* voxload.dialects._splice.Splice; NULL: it was not compiled */

/* --- Ledger --- */

/* Lateness is counted as voxload.measure.histogram.Histogram counts values; a test holds both equal. */
#if PY_BIG_ENDIAN
#error "counts are handed out as they lie in memory, little end first"
#endif
enum { SUB_BITS = 8, VALUE_BITS = 52, BUCKETS = (VALUE_BITS - SUB_BITS + 1) << SUB_BITS };

typedef struct {
    PyObject_HEAD
    uint32_t counts[BUCKETS]; /* between two calls of `take`, a second apart */
    int64_t noted, total, minimum, maximum, overflow;
    uint64_t sent, dropped, bytes;
    unsigned char *scratch;
    size_t scratch_size;
    uint64_t random; /* xorshift64: a mask must differ from frame to frame; it guards nothing here */
} Ledger;

static PyObject *ledger_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(words)) {
    Ledger *self = (Ledger *)type->tp_alloc(type, 0);
    if (self) self->random = (uint64_t)now_ns() | 1;
    return (PyObject *)self;
}

static void ledger_dealloc(Ledger *self) {
    PyMem_Free(self->scratch);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static inline int bucket_index(int64_t value) {
    int shift = 64 - __builtin_clzll((uint64_t)value | 1) - SUB_BITS - 1;
    return shift <= 0 ? (int)value : (shift << SUB_BITS) + (int)(value >> shift);
}

static inline void ledger_note(Ledger *self, int64_t late_ns) {
    int64_t value = late_ns > 0 ? late_ns : 0;
    if (!self->noted || value < self->minimum) self->minimum = value;
    if (value > self->maximum) self->maximum = value;
    self->noted++, self->total += value;
    if (value >> VALUE_BITS) self->overflow++;
    else self->counts[bucket_index(value)]++;
}

static PyObject *ledger_add(Ledger *self, PyObject *args) {
    long long late_ns;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Ln:add", &late_ns, &size)) return NULL;
    if (size < 0) self->dropped++;
    else self->sent++, self->bytes += (uint64_t)size;
    ledger_note(self, late_ns);
    Py_RETURN_NONE;
}

static PyObject *ledger_take(Ledger *self, PyObject *Py_UNUSED(none)) {
    int first = 0, end = 0; /* the buckets that hold something lie between */
    if (self->noted > self->overflow) {
        first = bucket_index(self->minimum);
        end = self->overflow ? BUCKETS : bucket_index(self->maximum) + 1;
    }
    size_t size = (size_t)(end - first) * sizeof self->counts[0];
    const char *counts = (const char *)(self->counts + first);
    PyObject *all = Py_BuildValue("((LLLLiy#)KKK)", self->total, self->minimum, self->maximum, self->overflow, first, counts,
                                  (Py_ssize_t)size, self->sent, self->dropped, self->bytes);
    if (!all) return NULL;
    memset(self->counts + first, 0, size);
    self->noted = self->total = self->minimum = self->maximum = self->overflow = 0;
    self->sent = self->dropped = self->bytes = 0;
    return all;
}

static PyMethodDef ledger_methods[] = {
    {"add", (PyCFunction)ledger_add, METH_VARARGS, "add(late_ns, size): count a frame of so many bytes; -1: it was dropped."},
    {"take", (PyCFunction)ledger_take, METH_NOARGS, "take() -> (fields of a PackedHistogram, sent, dropped, bytes)."},
    {NULL},
};

static PyTypeObject LedgerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload.engine._mouth.Ledger",
    .tp_basicsize = sizeof(Ledger),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "What the frames of a process leave behind.",
    .tp_new = ledger_new,
    .tp_dealloc = (destructor)ledger_dealloc,
    .tp_methods = ledger_methods,
};

/* --- Mouth --- */

typedef struct {
    Timed base;
    int fd, opcode, stopped, spliced; /* spliced: `stamp` is a layout in C */
    Ledger *ledger;
    PyObject *stamp, *bed, *payloads;
    int64_t frame_ns, unix_offset_ns, utterance_ns;
    Py_ssize_t sequence, position;
    PyObject *send, *ended, *unsent;
} Mouth;

static int64_t mouth_due(PyObject *self, int64_t due_ns);

static int mouth_init(Mouth *self, PyObject *args, PyObject *words) {
    static char *names[] = {"ledger", "stamp", "send", "ended", "bed", "frame_ns", "unix_offset_ns", "text", NULL};
    PyObject *ledger, *stamp, *send, *ended, *bed;
    long long frame_ns, unix_offset_ns;
    int text;
    if (!PyArg_ParseTupleAndKeywords(args, words, "O!OOOO!LLp:Mouth", names, &LedgerType, &ledger, &stamp, &send, &ended,
                                     &PyTuple_Type, &bed, &frame_ns, &unix_offset_ns, &text))
        return -1;
    if (!PyTuple_GET_SIZE(bed)) return PyErr_SetString(PyExc_ValueError, "the bed has no frame"), -1;
    Py_XSETREF(self->ledger, (Ledger *)Py_NewRef(ledger));
    Py_XSETREF(self->stamp, Py_NewRef(stamp));
    Py_XSETREF(self->send, Py_NewRef(send));
    Py_XSETREF(self->ended, Py_NewRef(ended));
    Py_XSETREF(self->bed, Py_NewRef(bed));
    self->base.due = mouth_due, self->spliced = splice_type && Py_IS_TYPE(stamp, splice_type);
    self->frame_ns = frame_ns, self->unix_offset_ns = unix_offset_ns, self->fd = -1;
    self->opcode = text ? OPCODE_TEXT : OPCODE_BINARY;
    return 0;
}

static int mouth_traverse(Mouth *self, visitproc visit, void *arg) {
    Py_VISIT(self->ledger);
    Py_VISIT(self->stamp);
    Py_VISIT(self->send);
    Py_VISIT(self->ended);
    Py_VISIT(self->bed);
    Py_VISIT(self->payloads);
    Py_VISIT(self->unsent);
    return 0;
}

static int mouth_clear(Mouth *self) {
    Py_CLEAR(self->ledger);
    Py_CLEAR(self->stamp);
    Py_CLEAR(self->send);
    Py_CLEAR(self->ended);
    Py_CLEAR(self->bed);
    Py_CLEAR(self->payloads);
    Py_CLEAR(self->unsent);
    return 0;
}

static void mouth_dealloc(Mouth *self) {
    PyObject_GC_UnTrack(self);
    mouth_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return room for a message of up to so many bytes, with that for a frame's header before it; NULL with an exception. */
static unsigned char *room_for(Ledger *ledger, size_t size) {
    if (ledger->scratch_size < size + FRAME_ROOM) {
        unsigned char *grown = PyMem_Realloc(ledger->scratch, size + FRAME_ROOM);
        if (!grown) return (unsigned char *)PyErr_NoMemory();
        ledger->scratch = grown, ledger->scratch_size = size + FRAME_ROOM;
    }
    return ledger->scratch + FRAME_HEAD_MAX;
}

/* Send the message that stands there as one masked frame; returns its bytes, -1 when it was dropped, -2 on an exception. */
static Py_ssize_t send_frame(Mouth *self, unsigned char *message, size_t size, int opcode) {
    uint64_t random = self->ledger->random;
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    self->ledger->random = random;
    unsigned char *frame = frame_seal(message, size, opcode, (uint32_t)(random >> 16));
    size_t length = size + (size_t)(message - frame);
    ssize_t taken = send(self->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken == (ssize_t)length) return (Py_ssize_t)size;
    if (taken <= 0) return -1; /* full, or gone: the event loop will read of the latter */
    self->fd = -1; /* the rest must leave before anything else: by the event loop, which waits for room */
    PyObject *done = PyObject_CallFunction(self->unsent, "y#", frame + taken, (Py_ssize_t)(length - (size_t)taken));
    if (!done) return -2;
    Py_DECREF(done);
    return (Py_ssize_t)size;
}

/* Have a layout in C write the message into the frame; returns as `send_frame`. */
static Py_ssize_t splice_and_send(Mouth *self, PyObject *prepared, int64_t unix_ns) {
    Spliced *splice = (Spliced *)self->stamp;
    size_t size = (size_t)PyBytes_GET_SIZE(prepared);
    unsigned char *message = room_for(self->ledger, size + splice->room);
    if (!message) return -2;
    size = splice->write(self->stamp, PyBytes_AS_STRING(prepared), size, self->sequence++, unix_ns, message);
    return send_frame(self, message, size, self->opcode);
}

/* Have Python stamp the frame, and send it or give it to the line; returns as `send_frame`. */
static Py_ssize_t stamp_and_send(Mouth *self, PyObject *prepared, int64_t unix_ns) {
    PyObject *sequence = PyLong_FromSsize_t(self->sequence), *time = PyLong_FromLongLong(unix_ns);
    self->sequence++;
    PyObject *words[] = {NULL, prepared, sequence, time}, *payload = NULL;
    if (sequence && time) payload = PyObject_Vectorcall(self->stamp, words + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(sequence);
    Py_XDECREF(time);
    if (!payload) return -2;
    Py_ssize_t sent = -2;
    if (!PyBytes_Check(payload)) {
        PyErr_Format(PyExc_TypeError, "stamp returned %.80s, not bytes", Py_TYPE(payload)->tp_name);
    } else if (self->fd >= 0) {
        unsigned char *message = room_for(self->ledger, (size_t)PyBytes_GET_SIZE(payload));
        if (message) {
            memcpy(message, PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload));
            sent = send_frame(self, message, (size_t)PyBytes_GET_SIZE(payload), self->opcode);
        }
    } else {
        PyObject *words_of_line[] = {NULL, payload, self->opcode == OPCODE_TEXT ? Py_True : Py_False};
        PyObject *taken = PyObject_Vectorcall(self->send, words_of_line + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        int truth = taken ? PyObject_IsTrue(taken) : -1;
        Py_XDECREF(taken);
        sent = truth < 0 ? -2 : truth ? PyBytes_GET_SIZE(payload) : -1;
    }
    Py_DECREF(payload);
    return sent;
}

/* Stamp and send; returns the time, or -1 on an exception. */
static int64_t speak(Mouth *self, PyObject *prepared, int64_t due_ns) {
    int64_t at_ns = now_ns(), unix_ns = at_ns + self->unix_offset_ns;
    if (!PyBytes_Check(prepared)) return PyErr_SetString(PyExc_TypeError, "a prepared frame is bytes"), -1;
    int straight = self->spliced && self->fd >= 0;
    Py_ssize_t sent = straight ? splice_and_send(self, prepared, unix_ns) : stamp_and_send(self, prepared, unix_ns);
    if (sent == -2) return -1;
    if (sent < 0) self->ledger->dropped++;
    else self->ledger->sent++, self->ledger->bytes += (uint64_t)sent;
    ledger_note(self->ledger, at_ns - due_ns);
    return at_ns;
}

static int64_t mouth_due(PyObject *object, int64_t due_ns) {
    Mouth *self = (Mouth *)object;
    if (self->stopped) return 0;
    if (!self->payloads || due_ns <= self->utterance_ns) { /* its samples were spoken before the utterance */
        PyObject *prepared = PyTuple_GET_ITEM(self->bed, self->sequence % PyTuple_GET_SIZE(self->bed));
        return speak(self, prepared, due_ns) < 0 ? -1 : due_ns + self->frame_ns;
    }
    PyObject *payloads = Py_NewRef(self->payloads);
    int64_t at_ns = speak(self, PyTuple_GET_ITEM(payloads, self->position), due_ns);
    int last = ++self->position == PyTuple_GET_SIZE(payloads);
    Py_DECREF(payloads);
    if (at_ns < 0) return -1;
    if (last) {
        Py_CLEAR(self->payloads);
        PyObject *done = PyObject_CallFunction(self->ended, "LL", (long long)(at_ns - due_ns), (long long)at_ns);
        if (!done) return -1;
        Py_DECREF(done);
    }
    return due_ns + self->frame_ns;
}

static PyObject *mouth_say(Mouth *self, PyObject *args) {
    PyObject *payloads;
    long long from_ns;
    if (!PyArg_ParseTuple(args, "O!L:say", &PyTuple_Type, &payloads, &from_ns)) return NULL;
    if (!PyTuple_GET_SIZE(payloads)) return PyErr_SetString(PyExc_ValueError, "an utterance without frames"), NULL;
    Py_XSETREF(self->payloads, Py_NewRef(payloads));
    self->position = 0, self->utterance_ns = from_ns;
    Py_RETURN_NONE;
}

static PyObject *mouth_stop(Mouth *self, PyObject *Py_UNUSED(none)) {
    self->stopped = 1, self->fd = -1;
    Py_RETURN_NONE;
}

static PyObject *mouth_attach(Mouth *self, PyObject *args) {
    PyObject *unsent;
    int fd;
    if (!PyArg_ParseTuple(args, "iO:attach", &fd, &unsent)) return NULL;
    Py_XSETREF(self->unsent, Py_NewRef(unsent));
    self->fd = self->stopped ? -1 : fd;
    Py_RETURN_NONE;
}

static PyObject *mouth_detach(Mouth *self, PyObject *Py_UNUSED(none)) {
    self->fd = -1;
    Py_RETURN_NONE;
}

static PyObject *mouth_ping(Mouth *self, PyObject *payload) {
    if (!PyBytes_Check(payload)) return PyErr_SetString(PyExc_TypeError, "a ping carries bytes"), NULL;
    if (self->fd < 0) Py_RETURN_FALSE;
    size_t size = (size_t)PyBytes_GET_SIZE(payload);
    unsigned char *message = room_for(self->ledger, size);
    if (!message) return NULL;
    memcpy(message, PyBytes_AS_STRING(payload), size);
    Py_ssize_t sent = send_frame(self, message, size, OPCODE_PING);
    return sent == -2 ? NULL : PyBool_FromLong(sent >= 0);
}

static PyObject *mouth_attached(Mouth *self, void *Py_UNUSED(closure)) { return PyBool_FromLong(self->fd >= 0); }

static PyMethodDef mouth_methods[] = {
    {"say", (PyCFunction)mouth_say, METH_VARARGS, "say(payloads, from_ns): speak the frames that are due after from_ns."},
    {"stop", (PyCFunction)mouth_stop, METH_NOARGS, "stop(): send nothing more."},
    {"ping", (PyCFunction)mouth_ping, METH_O, "ping(payload) -> whether it went to the socket; else the line must send it."},
    {"attach", (PyCFunction)mouth_attach, METH_VARARGS, "attach(fd, unsent): write to a socket; unsent(rest) takes what it does not."},
    {"detach", (PyCFunction)mouth_detach, METH_NOARGS, "detach(): leave the socket alone; frames go through the line."},
    {NULL},
};

static PyGetSetDef mouth_attributes[] = {
    {"attached", (getter)mouth_attached, NULL, "Whether frames go straight to a socket.", NULL},
    {NULL},
};

static PyTypeObject MouthType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload.engine._mouth.Mouth",
    .tp_basicsize = sizeof(Mouth),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Sends the frames of one call; called with a deadline, returns the next one, or 0.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)mouth_init,
    .tp_dealloc = (destructor)mouth_dealloc,
    .tp_traverse = (traverseproc)mouth_traverse,
    .tp_clear = (inquiry)mouth_clear,
    .tp_methods = mouth_methods,
    .tp_getset = mouth_attributes,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload.engine._mouth", .m_size = -1};

PyMODINIT_FUNC PyInit__mouth(void) {
    MouthType.tp_base = type_of_module("voxload._ring", "Timed");
    if (!MouthType.tp_base) return NULL;
    splice_type = type_of_module("voxload.dialects._splice", "Splice");
    if (!splice_type) PyErr_Clear();
    PyObject *made = PyModule_Create(&module);
    if (!made) return NULL;
    if (PyModule_AddType(made, &LedgerType) < 0 || PyModule_AddType(made, &MouthType) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
