/* What a caller does with every frame that it hears, without the interpreter in between.
 *
 * Optional: where it was not compiled, Python does all of it (voxload.inlet says how the two hang together). The types
 * whose names end in Numbers are the bases of the Python classes that do the whole work, and hold what these count. An
 * Inlet is where the messages of one call come in. It takes the plain case alone: an audio message in the form that the
 * dialect declares, which plays right after the one before it, while speech or silence goes on. In every other case it
 * says no before it has changed anything, and Python does the work.
 */
#include "_native.h"
#include "_numbers.h"
#include "_samples.h"
#include <string.h>

typedef struct {
    Taker base;
    InboundNumbers *inbound;
    EarNumbers *ear; /* NULL: nobody listens */
    PlayoutNumbers *playout;
    DetectorNumbers *detector;
    MeterNumbers *meter;
    JitterNumbers *jitter;
    LateNumbers *late;
    PyObject *heads, *tail, *refused; /* NULL: the dialect declares no form */
    long long most, count, since_ns;
    char text, base64;
} Inlet;

/* Samples of the message that is being heard: shared by all calls, each of which is done with it before the next. */
static unsigned char *scratch[2];
static Py_ssize_t scratch_size;

static int make_room(Py_ssize_t size) {
    if (size <= scratch_size) return 0;
    for (int at = 0; at < 2; at++) {
        unsigned char *grown = PyMem_Realloc(scratch[at], (size_t)(2 * size));
        if (!grown) return PyErr_NoMemory(), -1;
        scratch[at] = grown;
    }
    scratch_size = size;
    return 0;
}

static PyObject *inlet_close(Inlet *self, PyObject *Py_UNUSED(none)) {
    Py_CLEAR(self->ear);
    Py_CLEAR(self->playout);
    Py_CLEAR(self->detector);
    Py_CLEAR(self->meter);
    Py_CLEAR(self->jitter);
    Py_CLEAR(self->late);
    Py_CLEAR(self->heads);
    Py_CLEAR(self->tail);
    Py_CLEAR(self->refused);
    Py_RETURN_NONE;
}

static void inlet_dealloc(Inlet *self) {
    Py_XDECREF(inlet_close(self, NULL));
    Py_CLEAR(self->inbound);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *inlet_open(Inlet *self, PyObject *args) {
    PyObject *ear, *playout, *detector, *meter, *jitter, *late, *form, *heads = NULL, *tail = NULL, *refused = NULL;
    int text = 0, base64 = 0;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!O!O:open", &EarNumbersType, &ear, &PlayoutNumbersType, &playout,
                          &DetectorNumbersType, &detector, &MeterNumbersType, &meter, &JitterNumbersType, &jitter,
                          &LateNumbersType, &late, &form))
        return NULL;
    if (form != Py_None) {
        if (!PyTuple_Check(form)) return PyErr_SetString(PyExc_TypeError, "the form is no tuple"), NULL;
        if (!PyArg_ParseTuple(form, "O!SppS:open", &PyTuple_Type, &heads, &tail, &text, &base64, &refused)) return NULL;
        for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(heads); at++)
            if (!PyBytes_Check(PyTuple_GET_ITEM(heads, at))) return PyErr_SetString(PyExc_TypeError, "heads are bytes"), NULL;
    }
    if (((EarNumbers *)ear)->rate_hz <= 0 || ((DetectorNumbers *)detector)->window_bytes <= 0)
        return PyErr_SetString(PyExc_ValueError, "no sample rate"), NULL;
    Py_XDECREF(inlet_close(self, NULL));
    self->playout = (PlayoutNumbers *)Py_NewRef(playout);
    self->detector = (DetectorNumbers *)Py_NewRef(detector);
    self->meter = (MeterNumbers *)Py_NewRef(meter);
    self->jitter = (JitterNumbers *)Py_NewRef(jitter);
    self->late = (LateNumbers *)Py_NewRef(late);
    self->heads = Py_XNewRef(heads);
    self->tail = Py_XNewRef(tail);
    self->refused = Py_XNewRef(refused);
    self->text = (char)text, self->base64 = (char)base64;
    self->ear = (EarNumbers *)Py_NewRef(ear);
    Py_RETURN_NONE;
}

static int none_left(PyObject *bytes) { return bytes && PyBytes_Check(bytes) && !PyBytes_GET_SIZE(bytes); }

/* SpeechDetector.feed, when speech or silence goes on; 0: it may not, and nothing was changed. */
static int feed(DetectorNumbers *self, const int16_t *samples, Py_ssize_t size, int64_t at_ns, int64_t duration_ns) {
    int64_t step_ns = at_ns - self->next_ns;
    if (step_ns <= -self->window_ns || step_ns >= self->window_ns || size % self->window_bytes) return 0;
    if (!none_left(self->rest) || !none_left(self->history)) return 0;
    Py_ssize_t windows = size / self->window_bytes, window = self->window_bytes / 2;
    if (self->speaking) {
        int64_t active_ns = self->last_active_ns, last_ns = at_ns + (windows - 1) * self->window_ns;
        if (last_ns - active_ns < self->close_ns && rms(samples + (windows - 1) * window, window) >= self->close_level) {
            active_ns = last_ns + self->window_ns;
        } else { /* as `_scan` */
            int64_t end_ns = at_ns;
            for (Py_ssize_t at = 0; at < windows; at++) {
                end_ns += self->window_ns;
                if (rms(samples + at * window, window) >= self->close_level) active_ns = end_ns;
                else if (end_ns - active_ns >= self->close_ns) return 0; /* speech ends */
            }
        }
        self->last_active_ns = active_ns;
    } else {
        if (peak(samples, size / 2) >= self->close_level) return 0; /* speech may begin */
        self->run = 0;
    }
    self->next_ns = at_ns + duration_ns;
    return 1;
}

/* JitterMeter.add */
static void add_jitter(JitterNumbers *self, int64_t transit_ns) {
    if (self->started) {
        int64_t difference_ns = transit_ns - self->transit_ns;
        self->pairs++;
        self->scaled += (difference_ns < 0 ? -difference_ns : difference_ns) - ((self->scaled + 8) >> 4);
    }
    self->started = 1, self->transit_ns = transit_ns;
}

/* LateFrames.add */
static void add_late(LateNumbers *self, int64_t transit_ns) {
    self->frames++;
    if (!self->anchored) {
        self->anchored = 1, self->in_run = 0, self->deadline_ns = transit_ns + self->buffer_ns;
    } else if (transit_ns <= self->deadline_ns) {
        self->in_run = 0;
    } else {
        self->late++;
        if (!self->in_run) self->in_run = 1, self->runs++;
    }
}

/* HearingMeter.heard */
static void meter_packet(Inlet *self, const int16_t *samples, Py_ssize_t count, int64_t media_ns, int64_t arrival_ns) {
    MeterNumbers *meter = self->meter;
    meter->packets++;
    if (meter->spurts != self->playout->spurts) {
        meter->spurts = self->playout->spurts;
        self->jitter->started = self->late->anchored = 0;
        self->jitter->kept_scaled = self->jitter->scaled, self->jitter->kept_pairs = self->jitter->pairs;
    }
    if (self->ear->last_start_ns - arrival_ns > meter->burst_ns) { /* JitterMeter.leave_out */
        self->jitter->started = 0;
        self->jitter->scaled = self->jitter->kept_scaled, self->jitter->pairs = self->jitter->kept_pairs;
    } else add_jitter(self->jitter, arrival_ns - media_ns);
    add_late(self->late, arrival_ns - media_ns);
    if (meter->underruns != self->playout->underruns) {
        meter->underruns = self->playout->underruns;
        self->late->anchored = 0;
    }
    if (peak(samples, count) >= meter->full_scale) meter->clipped++;
}

/* Ear.hear and HearingMeter.heard, when the packet plays right after the one before; 0: nothing was changed. */
static int hear(Inlet *self, const unsigned char *audio, Py_ssize_t size, int64_t arrival_ns) {
    EarNumbers *ear = self->ear;
    PlayoutNumbers *playout = self->playout;
    DetectorNumbers *detector = self->detector;
    if (!ear || size <= 0 || !ear->mulaw) return 0;
    const int16_t *samples = (const int16_t *)audio;
    if (ear->mulaw != Py_None) {
        if (!PyBytes_Check(ear->mulaw) || PyBytes_GET_SIZE(ear->mulaw) != 512) return 0;
        const unsigned char *table = (const unsigned char *)PyBytes_AS_STRING(ear->mulaw);
        if (make_room(size) < 0) return -1;
        for (Py_ssize_t at = 0; at < size; at++) memcpy(scratch[1] + 2 * at, table + 2 * audio[at], 2);
        samples = (const int16_t *)scratch[1], size *= 2;
    } else if (size & 1) {
        return 0;
    }
    int64_t start_ns = playout->end_ns, media_ns = ear->heard_ns, duration_ns = size * 500000000LL / ear->rate_hz;
    if (arrival_ns - playout->buffer_ns - start_ns > 0 || detector->opened != ear->opened) return 0;
    if (!feed(detector, samples, size, start_ns, duration_ns)) return 0;
    ear->heard_ns += duration_ns;
    if (!ear->first_sound_ns && arrival_ns >= ear->since_ns && rms(samples, size / 2) > ear->quiet)
        ear->first_sound_ns = arrival_ns;
    ear->last_start_ns = start_ns;
    playout->end_ns = start_ns + duration_ns;
    meter_packet(self, samples, size / 2, media_ns, arrival_ns);
    return 1;
}

/* Take the audio out of a message of the declared form; returns its size, 0 when it has another form. */
static Py_ssize_t read_message(Inlet *self, const unsigned char *payload, Py_ssize_t size, const unsigned char **audio) {
    const unsigned char *end = payload + size, *at = NULL;
    for (Py_ssize_t n = 0; n < PyTuple_GET_SIZE(self->heads) && !at; n++) {
        PyObject *head = PyTuple_GET_ITEM(self->heads, n);
        Py_ssize_t length = PyBytes_GET_SIZE(head);
        if (length <= size && !memcmp(payload, PyBytes_AS_STRING(head), (size_t)length)) at = payload + length;
    }
    if (!at) return 0;
    Py_ssize_t count = end - at, refused = PyBytes_GET_SIZE(self->refused), tail = PyBytes_GET_SIZE(self->tail);
    if (make_room(count + 4) < 0) return -1;
    if (self->base64) {
        at = decode_base64(at, end, scratch[0], &count);
        if (!at || (tail && (end - at != tail || memcmp(at, PyBytes_AS_STRING(self->tail), (size_t)tail)))) return 0;
    } else {
        memcpy(scratch[0], at, (size_t)count); /* where 16-bit samples may be read */
    }
    if (refused && count >= refused && !memcmp(scratch[0], PyBytes_AS_STRING(self->refused), (size_t)refused)) return 0;
    *audio = scratch[0];
    return count;
}

/* Take a whole message, as a Taker does. */
static int take_message(PyObject *object, const unsigned char *payload, Py_ssize_t size, int text, int64_t arrival_ns) {
    Inlet *self = (Inlet *)object;
    if (!self->ear || !self->heads || text != self->text || self->count >= self->most) return 0;
    const unsigned char *audio;
    Py_ssize_t count = read_message(self, payload, size, &audio);
    if (count <= 0) return (int)count;
    int heard = hear(self, audio, count, arrival_ns);
    if (heard <= 0) return heard;
    self->count++;
    self->inbound->bytes_received += size, self->inbound->frames_received++;
    return 1;
}

static int inlet_init(Inlet *self, PyObject *args, PyObject *Py_UNUSED(words)) {
    PyObject *inbound;
    if (!PyArg_ParseTuple(args, "O!L:Inlet", &InboundNumbersType, &inbound, &self->most)) return -1;
    Py_XSETREF(self->inbound, (InboundNumbers *)Py_NewRef(inbound));
    self->base.take = take_message;
    return 0;
}

static PyObject *inlet_message(Inlet *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyBytes_Check(args[0]))
        return PyErr_SetString(PyExc_TypeError, "message(payload: bytes, text: bool, arrival_ns: int)"), NULL;
    int text = PyObject_IsTrue(args[1]);
    long long arrival_ns = PyLong_AsLongLong(args[2]);
    if (text < 0 || (arrival_ns == -1 && PyErr_Occurred())) return NULL;
    const unsigned char *payload = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    int done = take_message((PyObject *)self, payload, PyBytes_GET_SIZE(args[0]), text, arrival_ns);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyObject *inlet_hear(Inlet *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || !PyBytes_Check(args[0]))
        return PyErr_SetString(PyExc_TypeError, "hear(audio: bytes, arrival_ns: int)"), NULL;
    long long arrival_ns = PyLong_AsLongLong(args[1]);
    if (arrival_ns == -1 && PyErr_Occurred()) return NULL;
    int done = hear(self, (const unsigned char *)PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]), arrival_ns);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyObject *inlet_flooded(Inlet *self, PyObject *args) {
    long long size, arrival_ns;
    if (!PyArg_ParseTuple(args, "LL:flooded", &size, &arrival_ns)) return NULL;
    self->inbound->bytes_received += size;
    if (++self->count > self->most) {
        if (arrival_ns - self->since_ns < NS_PER_S) Py_RETURN_TRUE;
        self->count = 1, self->since_ns = arrival_ns;
    }
    Py_RETURN_FALSE;
}

static PyMethodDef inlet_methods[] = {
    {"open", (PyCFunction)inlet_open, METH_VARARGS, "open(ear, playout, detector, meter, jitter, late, form): listen."},
    {"close", (PyCFunction)inlet_close, METH_NOARGS, "close(): listen no more."},
    {"flooded", (PyCFunction)inlet_flooded, METH_VARARGS, "flooded(size, arrival_ns): count a message; are there too many?"},
    {"message", (PyCFunction)(void (*)(void))inlet_message, METH_FASTCALL,
     "message(payload, text, arrival_ns): take a plain audio message; False: it was not taken."},
    {"hear", (PyCFunction)(void (*)(void))inlet_hear, METH_FASTCALL,
     "hear(audio, arrival_ns): hear a plain packet; False: it was not heard."},
    {NULL},
};

static PyMemberDef inlet_members[] = {
    NUMBER(Inlet, count, "count"),
    NUMBER(Inlet, since_ns, "since_ns"),
    {NULL},
};

static PyTypeObject InletType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "voxload._inlet.Inlet",
    .tp_basicsize = sizeof(Inlet),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Where the messages of one call come in.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)inlet_init,
    .tp_dealloc = (destructor)inlet_dealloc,
    .tp_methods = inlet_methods,
    .tp_members = inlet_members,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "voxload._inlet", .m_size = -1};

PyMODINIT_FUNC PyInit__inlet(void) {
    static PyTypeObject *types[] = {
        &InboundNumbersType, &PlayoutNumbersType, &DetectorNumbersType, &EarNumbersType,
        &JitterNumbersType,  &LateNumbersType,    &MeterNumbersType,    &InletType,
    };
    fill_places();
    PyObject *made = PyModule_Create(&module);
    if (!made) return NULL;
    for (size_t at = 0; at < sizeof types / sizeof *types; at++) {
        if (PyModule_AddType(made, types[at]) < 0) {
            Py_DECREF(made);
            return NULL;
        }
    }
    if (add_build(made) < 0) Py_CLEAR(made);
    return made;
}
