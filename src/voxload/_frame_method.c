/* A listener's `on_ws_frame`, of which picows asks every frame: plain audio goes to the inlet without the interpreter.
 *
 * Optional, as the inlet in C is, which it needs.
 */
#include "_native.h"
#include <stddef.h>

static PyTypeObject *inlet_type; /* voxload._inlet.Inlet */

/* picows.WSFrame, as picows.pxd lays it out for other modules in C; an instance is looked at before it is relied on. */
typedef struct {
    PyObject_HEAD
    void *table;
    PyObject *payload_object;
    char *payload;
    Py_ssize_t size, tail_size;
    int kind;
    uint8_t fin, rsv1, rsv2, rsv3, last_in_buffer;
} Frame;

enum { KIND_TEXT = 1, KIND_BINARY = 2 };

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *slow;
    PyTypeObject *frame_type;
} FrameMethod;

static PyObject *inlet_name;

static PyObject *frame_method_call(FrameMethod *self, PyObject *const *args, size_t flags, PyObject *names) {
    if (PyVectorcall_NARGS(flags) == 3 && !names && Py_IS_TYPE(args[2], self->frame_type)) {
        const Frame *frame = (const Frame *)args[2];
        if (frame->fin && !frame->rsv1 && (frame->kind == KIND_TEXT || frame->kind == KIND_BINARY)) {
            PyObject *inlet = PyObject_GetAttr(args[0], inlet_name);
            if (!inlet) return NULL;
            const unsigned char *payload = (const unsigned char *)frame->payload;
            int done = 0;
            if (Py_IS_TYPE(inlet, inlet_type))
                done = ((Taker *)inlet)->take(inlet, payload, frame->size, frame->kind == KIND_TEXT, now_ns());
            Py_DECREF(inlet);
            if (done < 0) return NULL;
            if (done) Py_RETURN_NONE;
        }
    }
    return PyObject_Vectorcall(self->slow, args, flags, names);
}

static PyObject *frame_method_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(owner)) {
    return !instance || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

/* FrameMethod(slow, (frame, payload, text, fin), ...): frames whose contents are known. */
static PyObject *frame_method_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(words)) {
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if (count < 2) return PyErr_SetString(PyExc_ValueError, "no frame to look at"), NULL;
    for (Py_ssize_t at = 1; at < count; at++) {
        PyObject *object, *payload;
        int text, fin;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(args, at), "OSpp", &object, &payload, &text, &fin)) return NULL;
        const Frame *frame = (const Frame *)object;
        if (Py_TYPE(object)->tp_basicsize != sizeof(Frame) || frame->payload != PyBytes_AS_STRING(payload) ||
            frame->size != PyBytes_GET_SIZE(payload) || frame->kind != (text ? KIND_TEXT : KIND_BINARY) || frame->fin != fin)
            return PyErr_SetString(PyExc_ValueError, "a frame is laid out in another way"), NULL;
    }
    FrameMethod *self = (FrameMethod *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->call = (vectorcallfunc)frame_method_call;
    self->slow = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    self->frame_type = (PyTypeObject *)Py_NewRef(Py_TYPE(PyTuple_GET_ITEM(PyTuple_GET_ITEM(args, 1), 0)));
    return (PyObject *)self;
}

static void frame_method_dealloc(FrameMethod *self) {
    Py_CLEAR(self->slow);
    Py_CLEAR(self->frame_type);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject FrameMethodType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload._frame_method.FrameMethod",
    .tp_basicsize = sizeof(FrameMethod),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_doc = "A method that has the instance's `inlet` take plain audio, and calls the slow function for the rest.",
    .tp_new = frame_method_new,
    .tp_dealloc = (destructor)frame_method_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(FrameMethod, call),
    .tp_descr_get = frame_method_get,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload._frame_method", .m_size = -1};

PyMODINIT_FUNC PyInit__frame_method(void) {
    inlet_type = type_of_module("voxload._inlet", "Inlet");
    inlet_name = PyUnicode_InternFromString("inlet");
    PyObject *made = inlet_type && inlet_name ? PyModule_Create(&module) : NULL;
    if (made && PyModule_AddType(made, &FrameMethodType) < 0) Py_CLEAR(made);
    return made;
}
