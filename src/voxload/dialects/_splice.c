/* Writes messages around prepared audio, in C: voxload.dialects.splice holds the same class in Python, and says what it does.
 *
 * Both are held to the same tests. The caller's mouth has it write straight into the frame that it sends (`Spliced`).
 */
#include "../_native.h"
#include <string.h>
#include <structmember.h>
#include <time.h>

enum Kind { TEXT, PREPARED, SEQUENCE, COUNT, UNIX_MS, UNIX_S, UTC_MS };
static const char *const kinds[] = {"", "prepared", "sequence", "count", "unix_ms", "unix_s", "utc_ms", NULL};
enum { FIELD_MAX = 24 }; /* bytes of the longest number, or of a time of day */

typedef struct {
    enum Kind kind;
    PyObject *text;
    int64_t scale, add;
} Step;

typedef struct {
    Spliced base;
    PyObject *parts;
    Step *steps;
    Py_ssize_t steps_count;
    long long count;
} Splice;

static unsigned char *write_number(unsigned char *out, int64_t number) {
    char digits[FIELD_MAX];
    int at = FIELD_MAX;
    uint64_t left = number < 0 ? (uint64_t)0 - (uint64_t)number : (uint64_t)number;
    do digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0) digits[--at] = '-';
    memcpy(out, digits + at, (size_t)(FIELD_MAX - at));
    return out + (FIELD_MAX - at);
}

static unsigned char *write_thousandths(unsigned char *out, int thousandths) {
    out[0] = '.', out[1] = (unsigned char)('0' + thousandths / 100);
    out[2] = (unsigned char)('0' + thousandths / 10 % 10), out[3] = (unsigned char)('0' + thousandths % 10);
    return out + 4;
}

static unsigned char *write_utc(unsigned char *out, time_t second, int thousandths) {
    static time_t written = -1; /* once a second for all calls, which share it */
    static char text[32];
    if (second != written) {
        struct tm parts;
        gmtime_r(&second, &parts);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
        written = second;
    }
    size_t size = strlen(text);
    memcpy(out, text, size);
    return write_thousandths(out + size, thousandths);
}

static size_t splice_write(PyObject *object, const char *prepared, size_t size, int64_t sequence, int64_t unix_ns,
                           unsigned char *out) {
    Splice *self = (Splice *)object;
    unsigned char *start = out;
    int64_t unix_ms = unix_ns / 1000000;
    for (Step *step = self->steps, *end = step + self->steps_count; step < end; step++) {
        switch (step->kind) {
        case TEXT:
            memcpy(out, PyBytes_AS_STRING(step->text), (size_t)PyBytes_GET_SIZE(step->text));
            out += PyBytes_GET_SIZE(step->text);
            break;
        case PREPARED: memcpy(out, prepared, size), out += size; break;
        case SEQUENCE: out = write_number(out, sequence * step->scale + step->add); break;
        case COUNT: out = write_number(out, self->count++); break;
        case UNIX_MS: out = write_number(out, unix_ms); break;
        case UNIX_S: out = write_thousandths(write_number(out, unix_ms / 1000), (int)(unix_ms % 1000)); break;
        case UTC_MS: out = write_utc(out, (time_t)(unix_ms / 1000), (int)(unix_ms % 1000)); break;
        }
    }
    return (size_t)(out - start);
}

/* Take one part: bytes, or (kind, scale, add); 0, or -1 with an exception. */
static int take_part(Splice *self, PyObject *part, Step *step) {
    if (PyBytes_Check(part)) {
        *step = (Step){.kind = TEXT, .text = part}; /* `parts` keeps it */
        self->base.room += (size_t)PyBytes_GET_SIZE(part);
        return 0;
    }
    const char *name;
    long long scale, add;
    if (!PyTuple_Check(part))
        return PyErr_Format(PyExc_TypeError, "a part is bytes or a Blank, not %.80s", Py_TYPE(part)->tp_name), -1;
    if (!PyArg_ParseTuple(part, "sLL;a Blank is (kind, scale, add)", &name, &scale, &add)) return -1;
    for (int kind = PREPARED; kinds[kind]; kind++)
        if (!strcmp(name, kinds[kind])) {
            *step = (Step){.kind = kind, .scale = scale, .add = add};
            self->base.room += kind == PREPARED ? 0 : FIELD_MAX;
            return 0;
        }
    return PyErr_Format(PyExc_ValueError, "no blank %.80s", name), -1;
}

static PyObject *splice_lay_out(Splice *self, PyObject *parts) {
    if (!PyTuple_Check(parts)) return PyErr_SetString(PyExc_TypeError, "the parts are a tuple"), NULL;
    Splice made = {.steps_count = PyTuple_GET_SIZE(parts)};
    made.steps = PyMem_Calloc((size_t)made.steps_count + 1, sizeof(Step));
    if (!made.steps) return PyErr_NoMemory();
    int taken = 0, prepared = 0;
    for (Py_ssize_t n = 0; n < made.steps_count && !taken; n++) {
        taken = take_part(&made, PyTuple_GET_ITEM(parts, n), &made.steps[n]);
        prepared += made.steps[n].kind == PREPARED;
    }
    if (!taken && prepared != 1) PyErr_SetString(PyExc_ValueError, "one part is what was prepared"), taken = -1;
    if (taken < 0) {
        PyMem_Free(made.steps);
        return NULL;
    }
    PyMem_Free(self->steps);
    self->steps = made.steps, self->steps_count = made.steps_count, self->base.room = made.base.room;
    Py_XSETREF(self->parts, Py_NewRef(parts));
    Py_RETURN_NONE;
}

static PyObject *splice_new(PyTypeObject *type, PyObject *args, PyObject *words) {
    static char *names[] = {"parts", "count", NULL};
    PyObject *parts;
    long long count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, words, "O|L:Splice", names, &parts, &count)) return NULL;
    Splice *self = (Splice *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->base.write = splice_write, self->count = count;
    PyObject *done = splice_lay_out(self, parts);
    if (!done) Py_CLEAR(self);
    Py_XDECREF(done);
    return (PyObject *)self;
}

static void splice_dealloc(Splice *self) {
    PyMem_Free(self->steps);
    Py_XDECREF(self->parts);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *splice_call(Splice *self, PyObject *args, PyObject *words) {
    const char *prepared;
    Py_ssize_t size;
    long long sequence, unix_ns;
    if (words && PyDict_GET_SIZE(words)) return PyErr_SetString(PyExc_TypeError, "no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "y#LL:Splice", &prepared, &size, &sequence, &unix_ns)) return NULL;
    if (self->steps_count == 1) return Py_NewRef(PyTuple_GET_ITEM(args, 0)); /* nothing is added */
    PyObject *made = PyBytes_FromStringAndSize(NULL, size + (Py_ssize_t)self->base.room);
    if (!made) return NULL;
    size_t length = splice_write((PyObject *)self, prepared, (size_t)size, sequence, unix_ns,
                                 (unsigned char *)PyBytes_AS_STRING(made));
    _PyBytes_Resize(&made, (Py_ssize_t)length);
    return made;
}

static PyMethodDef splice_methods[] = {
    {"lay_out", (PyCFunction)splice_lay_out, METH_O, "lay_out(parts): be another layout from now on."},
    {NULL},
};

static PyMemberDef splice_members[] = {
    {"count", T_LONGLONG, offsetof(Splice, count), 0, "The number that the next `count` writes."},
    {NULL},
};

static PyTypeObject SpliceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload.dialects._splice.Splice",
    .tp_basicsize = sizeof(Splice),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Splice(parts, count=0): writes messages around prepared audio.",
    .tp_new = splice_new,
    .tp_dealloc = (destructor)splice_dealloc,
    .tp_call = (ternaryfunc)splice_call,
    .tp_methods = splice_methods,
    .tp_members = splice_members,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload.dialects._splice", .m_size = -1};

PyMODINIT_FUNC PyInit__splice(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &SpliceType) < 0 || add_build(made) < 0)) Py_CLEAR(made);
    return made;
}
