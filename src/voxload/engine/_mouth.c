/* The caller's mouth in C: what voxload.engine.mouth does for every frame, without the interpreter in between.
 *
 * Optional: where it was not compiled, the Python classes of the same names do the work. Both are held to the same tests.
 * A Ledger is what the frames of a process leave behind; a Mouth sends the frames of one call: stamps one (by the dialect's
 * own Python function), masks it (RFC 6455, 5.3) and hands it to the kernel. While the socket is not its own to write to
 * (TLS, or the event loop still holds older bytes), `fd` is -1 and frames go through the line.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { HEAD_MAX = 14, OPCODE_TEXT = 1, OPCODE_BINARY = 2, FIN = 0x80, MASKED = 0x80 };

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* --- Ledger --- */

typedef struct {
    PyObject_HEAD
    int64_t *late_ns;
    size_t count, room;
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
    PyMem_Free(self->late_ns);
    PyMem_Free(self->scratch);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int ledger_note(Ledger *self, int64_t late_ns) {
    if (self->count == self->room) {
        size_t room = self->room ? 2 * self->room : 4096;
        int64_t *grown = PyMem_Realloc(self->late_ns, room * sizeof *grown);
        if (!grown) return PyErr_NoMemory(), -1;
        self->late_ns = grown, self->room = room;
    }
    self->late_ns[self->count++] = late_ns;
    return 0;
}

static PyObject *ledger_add(Ledger *self, PyObject *args) {
    long long late_ns;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Ln:add", &late_ns, &size)) return NULL;
    if (size < 0) self->dropped++;
    else self->sent++, self->bytes += (uint64_t)size;
    if (ledger_note(self, late_ns) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *ledger_take(Ledger *self, PyObject *Py_UNUSED(none)) {
    PyObject *late = PyBytes_FromStringAndSize((const char *)self->late_ns, (Py_ssize_t)(self->count * sizeof(int64_t)));
    if (!late) return NULL;
    PyObject *all = Py_BuildValue("(NKKK)", late, self->sent, self->dropped, self->bytes);
    if (all) self->count = 0, self->sent = self->dropped = self->bytes = 0;
    return all;
}

static PyMethodDef ledger_methods[] = {
    {"add", (PyCFunction)ledger_add, METH_VARARGS, "add(late_ns, size): count a frame of so many bytes; -1: it was dropped."},
    {"take", (PyCFunction)ledger_take, METH_NOARGS, "take() -> (lateness as int64 bytes, sent, dropped, bytes); begins anew."},
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
    PyObject_HEAD
    Ledger *ledger;
    PyObject *stamp, *send, *ended, *bed, *payloads, *unsent;
    int64_t frame_ns, unix_offset_ns, utterance_ns;
    Py_ssize_t sequence, position;
    int fd, text, stopped;
} Mouth;

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
    self->frame_ns = frame_ns, self->unix_offset_ns = unix_offset_ns, self->text = text, self->fd = -1;
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

/* Write one masked frame; returns the bytes of `payload` that count as sent, -1 when it was dropped, -2 on an exception. */
static Py_ssize_t write_frame(Mouth *self, const unsigned char *payload, size_t size) {
    Ledger *ledger = self->ledger;
    if (ledger->scratch_size < size + HEAD_MAX + 8) {
        unsigned char *grown = PyMem_Realloc(ledger->scratch, size + HEAD_MAX + 8);
        if (!grown) return PyErr_NoMemory(), -2;
        ledger->scratch = grown, ledger->scratch_size = size + HEAD_MAX + 8;
    }
    unsigned char *frame = ledger->scratch;
    size_t head = 2;
    frame[0] = FIN | (self->text ? OPCODE_TEXT : OPCODE_BINARY);
    if (size < 126) {
        frame[1] = MASKED | (unsigned char)size;
    } else if (size < 65536) {
        frame[1] = MASKED | 126, frame[2] = (unsigned char)(size >> 8), frame[3] = (unsigned char)size, head = 4;
    } else {
        frame[1] = MASKED | 127, head = 10;
        for (int at = 0; at < 8; at++) frame[2 + at] = (unsigned char)((uint64_t)size >> (56 - 8 * at));
    }
    ledger->random ^= ledger->random << 13, ledger->random ^= ledger->random >> 7, ledger->random ^= ledger->random << 17;
    uint32_t key = (uint32_t)(ledger->random >> 16);
    uint64_t mask = (uint64_t)key << 32 | key;
    memcpy(frame + head, &key, 4), head += 4;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, payload + at, 8);
        word ^= mask;
        memcpy(frame + head + at, &word, 8);
    }
    for (; at < size; at++) frame[head + at] = payload[at] ^ ((unsigned char *)&key)[at & 3];
    size_t length = head + size;
    ssize_t taken = send(self->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken == (ssize_t)length) return (Py_ssize_t)size;
    if (taken <= 0) return -1; /* full, or gone: the event loop will read of the latter */
    self->fd = -1; /* the rest must leave before anything else: by the event loop, which waits for room */
    PyObject *done = PyObject_CallFunction(self->unsent, "y#", frame + taken, (Py_ssize_t)(length - (size_t)taken));
    if (!done) return -2;
    Py_DECREF(done);
    return (Py_ssize_t)size;
}

/* Stamp and send; returns the time, or -1 on an exception. */
static int64_t speak(Mouth *self, PyObject *prepared, int64_t due_ns) {
    int64_t at_ns = now_ns();
    PyObject *sequence = PyLong_FromSsize_t(self->sequence), *unix_ns = PyLong_FromLongLong(at_ns + self->unix_offset_ns);
    PyObject *words[] = {NULL, prepared, sequence, unix_ns};
    PyObject *payload = sequence && unix_ns ? PyObject_Vectorcall(self->stamp, words + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
                                            : NULL;
    Py_XDECREF(sequence);
    Py_XDECREF(unix_ns);
    if (!payload) return -1;
    self->sequence++;
    Py_ssize_t sent;
    if (!PyBytes_Check(payload)) {
        PyErr_Format(PyExc_TypeError, "stamp returned %.80s, not bytes", Py_TYPE(payload)->tp_name);
        sent = -2;
    } else if (self->fd >= 0) {
        sent = write_frame(self, (const unsigned char *)PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload));
    } else {
        PyObject *words_of_line[] = {NULL, payload, self->text ? Py_True : Py_False};
        PyObject *taken = PyObject_Vectorcall(self->send, words_of_line + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        int truth = taken ? PyObject_IsTrue(taken) : -1;
        Py_XDECREF(taken);
        sent = truth < 0 ? -2 : truth ? PyBytes_GET_SIZE(payload) : -1;
    }
    Py_DECREF(payload);
    if (sent == -2) return -1;
    if (sent < 0) self->ledger->dropped++;
    else self->ledger->sent++, self->ledger->bytes += (uint64_t)sent;
    return ledger_note(self->ledger, at_ns - due_ns) < 0 ? -1 : at_ns;
}

static PyObject *mouth_on_frame(Mouth *self, PyObject *due) {
    int64_t due_ns = PyLong_AsLongLong(due);
    if (due_ns == -1 && PyErr_Occurred()) return NULL;
    if (self->stopped) return PyLong_FromLong(0);
    if (!self->payloads || due_ns <= self->utterance_ns) { /* its samples were spoken before the utterance */
        PyObject *prepared = PyTuple_GET_ITEM(self->bed, self->sequence % PyTuple_GET_SIZE(self->bed));
        if (speak(self, prepared, due_ns) < 0) return NULL;
        return PyLong_FromLongLong(due_ns + self->frame_ns);
    }
    PyObject *payloads = Py_NewRef(self->payloads);
    int64_t at_ns = speak(self, PyTuple_GET_ITEM(payloads, self->position), due_ns);
    int last = ++self->position == PyTuple_GET_SIZE(payloads);
    Py_DECREF(payloads);
    if (at_ns < 0) return NULL;
    if (last) {
        Py_CLEAR(self->payloads);
        PyObject *done = PyObject_CallFunction(self->ended, "LL", (long long)(at_ns - due_ns), (long long)at_ns);
        if (!done) return NULL;
        Py_DECREF(done);
    }
    return PyLong_FromLongLong(due_ns + self->frame_ns);
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

static PyObject *mouth_attached(Mouth *self, void *Py_UNUSED(closure)) { return PyBool_FromLong(self->fd >= 0); }

static PyMethodDef mouth_methods[] = {
    {"on_frame", (PyCFunction)mouth_on_frame, METH_O, "on_frame(due_ns) -> the next deadline, or 0."},
    {"say", (PyCFunction)mouth_say, METH_VARARGS, "say(payloads, from_ns): speak the frames that are due after from_ns."},
    {"stop", (PyCFunction)mouth_stop, METH_NOARGS, "stop(): send nothing more."},
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
    .tp_doc = "Sends the frames of one call.",
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
    PyObject *made = PyModule_Create(&module);
    if (!made) return NULL;
    if (PyModule_AddType(made, &LedgerType) < 0 || PyModule_AddType(made, &MouthType) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
