/* Reads the sockets of a process's calls: plain audio goes from the kernel to the inlet without the interpreter.
 *
 * Optional: where it was not compiled, the event loop reads (voxload.engine.receiver says how the two share a socket). A
 * Receiver has an epoll of its own, which the event loop watches like any descriptor. A frame that the inlet does not take
 * goes to the reader in Python, whole; of a pong only what it carries. So does all that is left when the socket ends,
 * fails, or sends a frame that is larger than the buffer: the event loop reads it from then on.
 */
#include "../_native.h"
#include "_frame.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024, AT_ONCE = 128 }; /* then timers have their turn */

static PyTypeObject *inlet_type; /* voxload._inlet.Inlet */
static PyObject *received_name, *ponged_name;

typedef struct {
    PyObject *reader; /* NULL: this descriptor is not read here */
    Taker *inlet;
    unsigned char *held; /* the beginning of a frame whose rest has not come yet */
    size_t held_size;
} Socket;

typedef struct {
    PyObject_HEAD
    int epoll, busy, room;
    Socket *sockets; /* by descriptor */
    unsigned char *buffer;
} Receiver;

static PyObject *receiver_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(words)) {
    Receiver *self = (Receiver *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->buffer = self->epoll < 0 ? NULL : PyMem_Malloc(BUFFER_SIZE);
    if (self->buffer) return (PyObject *)self;
    if (self->epoll < 0) PyErr_SetFromErrno(PyExc_OSError);
    else PyErr_NoMemory();
    Py_DECREF(self);
    return NULL;
}

static int receiver_traverse(Receiver *self, visitproc visit, void *arg) {
    for (int fd = 0; fd < self->room; fd++) {
        Py_VISIT(self->sockets[fd].reader);
        Py_VISIT(self->sockets[fd].inlet);
    }
    return 0;
}

/* Leave a socket to others. What it held is gone. */
static void forget(Receiver *self, int fd) {
    Socket was = self->sockets[fd];
    memset(&self->sockets[fd], 0, sizeof was);
    if (was.reader && self->epoll >= 0) epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, NULL);
    PyMem_Free(was.held);
    Py_XDECREF(was.inlet);
    Py_XDECREF(was.reader); /* last: this may run Python */
}

static int receiver_clear(Receiver *self) {
    for (int fd = 0; fd < self->room; fd++) forget(self, fd);
    return 0;
}

static PyObject *receiver_close(Receiver *self, PyObject *Py_UNUSED(none)) {
    receiver_clear(self);
    if (self->epoll >= 0) close(self->epoll);
    self->epoll = -1;
    Py_RETURN_NONE;
}

static void receiver_dealloc(Receiver *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(receiver_close(self, NULL));
    PyMem_Free(self->sockets);
    PyMem_Free(self->buffer);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *receiver_fileno(Receiver *self, PyObject *Py_UNUSED(none)) { return PyLong_FromLong(self->epoll); }

static int make_room(Receiver *self, int fd) {
    if (fd < self->room) return 0;
    int room = self->room ? self->room : 64;
    while (room <= fd) room *= 2;
    Socket *grown = PyMem_Realloc(self->sockets, (size_t)room * sizeof *grown);
    if (!grown) return PyErr_NoMemory(), -1;
    memset(grown + self->room, 0, (size_t)(room - self->room) * sizeof *grown);
    self->sockets = grown, self->room = room;
    return 0;
}

/* Edges: a socket that was read to its end is not looked at again until more has come. */
static int watch(Receiver *self, int how, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    return epoll_ctl(self->epoll, how, fd, &event);
}

static PyObject *receiver_attach(Receiver *self, PyObject *args) {
    PyObject *inlet, *reader;
    int fd;
    if (!PyArg_ParseTuple(args, "iO!O:attach", &fd, inlet_type, &inlet, &reader)) return NULL;
    if (fd < 0 || self->epoll < 0) return PyErr_SetString(PyExc_ValueError, "closed"), NULL;
    if (make_room(self, fd) < 0) return NULL;
    forget(self, fd);
    if (watch(self, EPOLL_CTL_ADD, fd) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    self->sockets[fd] = (Socket){.reader = Py_NewRef(reader), .inlet = (Taker *)Py_NewRef(inlet)};
    Py_RETURN_NONE;
}

static PyObject *receiver_detach(Receiver *self, PyObject *args) {
    PyObject *reader;
    int fd;
    if (!PyArg_ParseTuple(args, "iO:detach", &fd, &reader)) return NULL;
    if (fd < 0 || fd >= self->room || self->sockets[fd].reader != reader) return PyBytes_FromStringAndSize(NULL, 0);
    PyObject *held = PyBytes_FromStringAndSize((const char *)self->sockets[fd].held, (Py_ssize_t)self->sockets[fd].held_size);
    if (held) forget(self, fd);
    return held;
}

/* Call reader.name(bytes, word), which must not fail; takes the reference to `word` (NULL: there was no memory for it). */
static void tell(PyObject *reader, PyObject *name, const unsigned char *bytes, size_t size, PyObject *word) {
    PyObject *data = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)size), *done = NULL;
    if (data && word) {
        PyObject *words[] = {reader, data, word};
        done = PyObject_VectorcallMethod(name, words, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    if (!done) PyErr_WriteUnraisable(reader);
    Py_XDECREF(done);
    Py_XDECREF(word);
    Py_XDECREF(data);
}

/* Give bytes to Python; `over`: the event loop reads this socket from now on. */
static void give(PyObject *reader, const unsigned char *bytes, size_t size, int over) {
    tell(reader, received_name, bytes, size, PyBool_FromLong(over));
}

static void give_up(Receiver *self, int fd, PyObject *reader, const unsigned char *bytes, size_t size) {
    forget(self, fd);
    give(reader, bytes, size, 1);
}

/* Keep the beginning of a frame (nothing: of size 0); 0: there is no memory. */
static int hold(Socket *socket, const unsigned char *bytes, size_t size) {
    unsigned char *held = NULL;
    if (size) {
        held = PyMem_Malloc(size);
        if (!held) return 0;
        memcpy(held, bytes, size);
    }
    PyMem_Free(socket->held);
    socket->held = held, socket->held_size = size;
    return 1;
}

/* Hand out the frames in the buffer, and keep the beginning of the next one. */
static void hand_out(Receiver *self, int fd, PyObject *reader, Taker *inlet, size_t size) {
    const unsigned char *at = self->buffer, *end = at + size;
    int64_t arrival_ns = now_ns();
    for (Frame frame; frame_read(&frame, at, (size_t)(end - at)); at += frame.size) {
        int done = 0;
        if (frame.plain) {
            done = inlet->take((PyObject *)inlet, frame.payload, (Py_ssize_t)frame.payload_size, frame.text, arrival_ns);
            if (done < 0) PyErr_Clear(); /* out of memory: Python meets it again, and says so */
        }
        if (done > 0) continue;
        if (frame.pong) tell(reader, ponged_name, frame.payload, frame.payload_size, PyLong_FromLongLong(arrival_ns));
        else give(reader, at, frame.size, 0);
        if (self->sockets[fd].reader == reader) continue;
        at += frame.size; /* Python has left this socket meanwhile */
        if (at < end) give(reader, at, (size_t)(end - at), 0);
        return;
    }
    size_t rest = (size_t)(end - at);
    if (frame_size(at, rest) > BUFFER_SIZE || !hold(&self->sockets[fd], at, rest)) give_up(self, fd, reader, at, rest);
}

/* Read what has come on one socket. */
static void read_socket(Receiver *self, int fd, uint32_t events) {
    Socket *here = &self->sockets[fd];
    PyObject *reader = Py_NewRef(here->reader);
    Taker *inlet = (Taker *)Py_NewRef(here->inlet);
    size_t held = here->held_size;
    if (held) memcpy(self->buffer, here->held, held);
    ssize_t got = -1;
    if (!(events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))) { /* else the event loop finds out what it is, and reads the rest */
        got = recv(fd, self->buffer + held, BUFFER_SIZE - held, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) goto done;
    }
    if (got <= 0) {
        give_up(self, fd, reader, self->buffer, held);
        goto done;
    }
    hold(here, NULL, 0);
    hand_out(self, fd, reader, inlet, held + (size_t)got);
    if (held + (size_t)got == BUFFER_SIZE && self->sockets[fd].reader == reader)
        watch(self, EPOLL_CTL_MOD, fd); /* there may be more: have it told again */
done:
    Py_DECREF(inlet);
    Py_DECREF(reader);
}

static PyObject *receiver_call(Receiver *self, PyObject *args, PyObject *Py_UNUSED(words)) {
    struct epoll_event events[AT_ONCE];
    if (!PyArg_ParseTuple(args, ":Receiver")) return NULL;
    if (self->busy || self->epoll < 0) Py_RETURN_NONE;
    self->busy = 1;
    int count = epoll_wait(self->epoll, events, AT_ONCE, 0);
    for (int at = 0; at < count; at++) { /* a call may end those of others, and new ones begin */
        int fd = events[at].data.fd;
        if (fd < self->room && self->sockets[fd].reader) read_socket(self, fd, events[at].events);
    }
    self->busy = 0;
    Py_RETURN_NONE;
}

static PyMethodDef receiver_methods[] = {
    {"fileno", (PyCFunction)receiver_fileno, METH_NOARGS, "fileno(): a descriptor that can be read when a socket can."},
    {"attach", (PyCFunction)receiver_attach, METH_VARARGS, "attach(fd, inlet, reader): read a socket."},
    {"detach", (PyCFunction)receiver_detach, METH_VARARGS, "detach(fd, reader): leave it; returns the begun frame."},
    {"close", (PyCFunction)receiver_close, METH_NOARGS, "close(): leave all sockets."},
    {NULL},
};

static PyTypeObject ReceiverType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload.engine._receiver.Receiver",
    .tp_basicsize = sizeof(Receiver),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Reads the sockets of a process's calls; called when one can be read.",
    .tp_new = receiver_new,
    .tp_dealloc = (destructor)receiver_dealloc,
    .tp_traverse = (traverseproc)receiver_traverse,
    .tp_clear = (inquiry)receiver_clear,
    .tp_call = (ternaryfunc)receiver_call,
    .tp_methods = receiver_methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload.engine._receiver", .m_size = -1};

PyMODINIT_FUNC PyInit__receiver(void) {
    inlet_type = type_of_module("voxload._inlet", "Inlet");
    received_name = PyUnicode_InternFromString("received");
    ponged_name = PyUnicode_InternFromString("ponged");
    PyObject *made = inlet_type && received_name && ponged_name ? PyModule_Create(&module) : NULL;
    if (made && PyModule_AddType(made, &ReceiverType) < 0) Py_CLEAR(made);
    return made;
}
