"""Words of the field for made-up papers; the patterns of abstracts.py take their words from here."""

from __future__ import annotations

from typing import NamedTuple


class Area(NamedTuple):
    """A part of the field: lists of phrases that fit into the patterns."""

    fields: tuple[str, ...]
    #: Fit after "of", "for" and "in".
    topics: tuple[str, ...]
    #: Fit after "with" and "using".
    methods: tuple[str, ...]
    #: Fit after "on" and "from".
    data: tuple[str, ...]
    #: Sentences without a full stop: difficulties, and results.
    problems: tuple[str, ...]
    findings: tuple[str, ...]
    #: Measures of quality, from 0 to 1, and of cost.
    measures: tuple[str, ...]
    costs: tuple[str, ...]
    people: tuple[str, ...]
    #: Patterns of titles that only this area has.
    titles: tuple[str, ...]
    #: Name, short name, and `journal` or `conference`.
    venues: tuple[tuple[str, str, str], ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _all(text: str) -> tuple[str, ...]:
    """Return the phrases of `text`, which are separated by semicolons."""
    return tuple(" ".join(one.split()) for one in text.split(";") if one.strip())


_CITATIONS = Area(
    ("Computer Science", "Sociology"),
    _all("""
        citation networks; co-citation clusters; bibliographic coupling; citation recommendation; main paths of a
        literature; delayed recognition; self-citation; citation contexts; patent citations; the aging of references;
        negative citations; citation cartels; knowledge flow between disciplines; interdisciplinary borrowing;
        retracted papers and their citations; reference lists; link prediction in citation graphs; citation counts of
        preprints; forgotten classics; uncited work"""),
    _all("""
        stochastic block models; main path analysis; preferential attachment with fitness; graph attention; temporal
        random walks; matched pairs; survival analysis; personalized PageRank; community detection; causal forests;
        motif counting; heterogeneous graph embeddings; node percolation; a null model that keeps degrees"""),
    _all("""
        four decades of physics papers; the reference lists of two million patents; a complete citation index of
        mathematics; ninety years of ecology; the proceedings of twelve computing conferences; the open citations of
        forty publishers; three generations of chemistry theses; clinical trials and the guidelines that cite them;
        the literature of one hundred small fields; a preprint server and the journals that follow it"""),
    _all("""
        old papers have had more time to be cited; a citation says nothing about why it was made; reference lists are
        copied from one paper to the next; databases disagree on one reference in nine; a field of two hundred authors
        looks like noise beside one of two hundred thousand; the most cited papers are cited for their title alone;
        edges that are missing are not missing at random; a network that is cut at a journal's border loses its bridges"""),
    _all("""
        papers that join two communities are cited later, but for longer; half of all references to a classic do not
        concern its main result; removing self-citations changes the order of authors, not that of papers; a paper's
        third year predicts its twentieth better than its first does; sleeping papers are woken by neighbors from another
        discipline; short reference lists age faster; the core of the network survives the loss of any single journal;
        review articles redirect citations within eighteen months; citations to software appear in methods and nowhere
        else; two thirds of the long paths go through fewer than forty papers"""),
    _all("rank correlation; modularity; mean reciprocal rank; the share of recovered edges; normalized mutual information"),
    _all("the half-life of references; running time; the number of components"),
    _all("bibliometricians; librarians; editors; historians of science; reviewers; patent examiners"),
    _all("""
        Who wakes a sleeping paper?; The second life of [retracted|forgotten|corrected] papers; Cited, but not read: {topic} and
        the copying of references; A paper's neighbors know its future: {method} for {topic}; The long way from
        [{field}|{field}] to [{field}|{field}]: tracing an idea through its citations; Bridges, cores and dead ends in {topic};
        What a reference list forgets"""),
    (
        ("Journal of Citation Studies", "J. Citation Stud.", "journal"),
        ("Annals of Reference Networks", "Ann. Ref. Netw.", "journal"),
        ("Conference on Citation Graphs", "CCG", "conference"),
        ("Workshop on the Structure of Literature", "WSL", "conference"),
    ),
)  # fmt: skip

_RETRIEVAL = Area(
    ("Computer Science",),
    _all("""
        query expansion; learned sparse retrieval; dense retrieval; conversational search; relevance feedback; test
        collections; known-item search; cross-lingual retrieval; query autocompletion; passage ranking; click models;
        literature search; systematic reviews; result diversification; search in archives; enterprise search;
        zero-result queries; query performance prediction; mathematical formula search; long queries"""),
    _all("""
        late interaction; hard negatives; pseudo-relevance feedback; counterfactual learning to rank; inverted indexes
        with impact scores; pairwise preferences; generated questions; reciprocal rank fusion; distillation from a cross-encoder;
        document expansion; cascade ranking; bandit feedback; a two-stage judge; term-weight pruning"""),
    _all("""
        the query logs of a national library; a web crawl of eighty million pages; nine shared tasks of the last decade;
        the help desk of a university; a collection of digitized newspapers; sixty systematic reviews in medicine;
        court decisions from five countries; the search box of a seed bank; a corpus of recipes in eleven languages;
        thirty thousand questions to reference librarians"""),
    _all("""
        judged documents are those that older systems found; users reformulate before anybody can measure their success;
        the words of the question are rarely those of the answer; a click shows where the result was, not what it was
        worth; gains on the benchmark vanish on the next collection; exact phrases matter most where embeddings blur them;
        latency grows with the quality of the last stage; one relevant document for each query is a convenient fiction"""),
    _all("""
        ten judged queries from the target domain are worth a million from the web; a plain BM25 baseline wins whenever
        the query contains a name; users forgive a wrong first result, but not two; expansion helps short queries and
        harms long ones; the order of systems is stable from fifty queries on; most of the gain comes from the first stage;
        searchers who see fewer results find the same documents sooner; pruning one posting in three changes no
        ranking that a user would notice; judges agree about documents more often than about passages; spelling
        mistakes explain a fifth of all empty result pages"""),
    _all("nDCG@10; recall at 100; mean average precision; success at the first result; mean reciprocal rank"),
    _all("median latency; index size; the number of reformulations"),
    _all("searchers; librarians; patent attorneys; students; archivists; journalists; clinicians"),
    _all("""
        Nobody reads page two: {topic} and [patience|attention|effort]; The query is the question, almost; Ten blue links, [twenty|thirty] years
        later; Ask a librarian: what {topic} can learn from the reference desk; When BM25 is enough; Looking for what one has
        seen before: {topic} in practice; Judges, clicks and [doubt|disagreement]: evaluating {topic}"""),
    (
        ("Journal of Search and Ranking", "J. Search Rank.", "journal"),
        ("Transactions on Retrieval Systems", "Trans. Retr. Syst.", "journal"),
        ("Conference on Retrieval in Practice", "CRP", "conference"),
        ("Symposium on Search and its Users", "SSU", "conference"),
    ),
)  # fmt: skip

_DATABASES = Area(
    ("Computer Science",),
    _all("""
        query optimization; cardinality estimation; learned indexes; snapshot isolation; write-ahead logging; column
        stores; log-structured merge trees; incremental view maintenance; worst-case optimal joins; schema evolution;
        data provenance; entity resolution; point-in-time recovery; transactions across regions; approximate counting; spatial
        joins; graph queries; time-series compression; concurrency control; the testing of query engines"""),
    _all("""
        predicate transfer; adaptive sampling; vectorized execution; group commit; bloom filters; multi-version
        timestamps; cost models that learn; zone maps; lock-free hash tables; differential testing; partial replication; a persistent
        buffer pool; semi-join reduction; deterministic replay"""),
    _all("""
        the traces of a warehouse with nine thousand tables; five open-source engines; a year of incidents at a hospital;
        TPC-H at a thousand gigabytes; the join graphs of a movie database; sensor readings from two hundred buildings; the
        commit logs of a payment service; thirty schemas that grew for twenty years; a census with eleven thousand columns;
        the workload of a public transport operator"""),
    _all("""
        independence is assumed where columns are correlated; a backup that was never restored is a hope; the plan that is
        best on average is bad on Mondays; disks acknowledge what they have not written; a benchmark without updates
        rewards what nobody deploys; statistics are stale as soon as they are collected; one slow replica holds up the
        quorum; tuning knobs outnumber those who understand them"""),
    _all("""
        three of four bad plans come from a single wrong estimate; a hash join that spills gracefully beats a faster one that
        does not; eleven of the bugs had been in production for more than a decade; checksums found more silent corruption
        than all replicas together; most of the tables are never joined on a declared key; a sample of one percent is
        enough for nine queries in ten; the log is the database, and the rest is a cache; batching commits halves the energy of
        each transaction; restoring beside the live database costs space but no downtime; simple heuristics match the learned
        optimizer once statistics are fresh"""),
    _all("the share of optimal plans; the cache hit ratio; relative throughput; recall; the share of detected errors"),
    _all("tail latency; write amplification; time to recovery; energy per query"),
    _all("database administrators; analysts; software engineers; data stewards; operators; students"),
    _all("""
        The optimizer was right: [a story|eleven stories] of wrong statistics; Restored, therefore backed up; How many indexes are too
        many?; The log remembers: {topic} by {method}; Sixty ways to lose a commit; Joins that nobody asked for; A small
        engine for [large|stubborn|old] schemas"""),
    (
        ("Journal of Data Engines", "J. Data Eng.", "journal"),
        ("Transactions on Storage and Recovery", "Trans. Storage Recov.", "journal"),
        ("Conference on Query Processing", "CQP", "conference"),
        ("Symposium on Reliable Data", "SRD", "conference"),
    ),
)  # fmt: skip

_LEARNING = Area(
    ("Computer Science", "Mathematics"),
    _all("""
        representation learning; active learning; graph neural networks; uncertainty estimation; few-shot
        classification; document embeddings; learning with noisy labels; domain adaptation; curriculum learning; model
        calibration; feature attribution; topic models; continual learning; extreme multi-label classification;
        out-of-distribution detection; hyperparameter search; data pruning; text summarization; fair classification; link
        prediction"""),
    _all("""
        contrastive pretraining; variational inference; mixtures of experts; Gaussian processes; low-rank adapters;
        self-distillation; neighborhood aggregation; conformal prediction; spectral normalization; ensembles of small models;
        weak supervision; meta-gradients; label smoothing; optimal transport"""),
    _all("""
        the abstracts of eleven disciplines; a herbarium of labelled leaves; twenty tabular benchmarks; bird calls from six forests; the
        handwriting of four archives; satellite images of irrigated land; questions that children ask; a year of air quality
        measurements; molecules with known solubility; machine logs of a paper mill"""),
    _all("""
        the test set is older than the model; labels disagree most where they matter most; a better average hides a worse
        tail; results depend on the random seed; models are confident exactly where data are rare; the validation
        set is consulted until it agrees; larger models make ablations unaffordable; what is learned first is what is easiest, not
        what is true"""),
    _all("""
        most of the gain disappears once the baseline is tuned as long; five seeds are not enough to tell the two methods
        apart; dropping the easiest third of the data costs nothing; a linear probe explains nine tenths of the difference;
        calibration survives distillation, ranking does not; depth helps until the graph is a small world; disagreement between annotators is
        a signal worth keeping; the simplest acquisition rule wins on all but two tasks; pretraining on neighbors matters
        more than pretraining on more; errors concentrate on one label in twenty"""),
    _all("accuracy; macro F1; area under the curve; coverage; rank correlation"),
    _all("training time; memory; the calibration error; the number of labels"),
    _all("practitioners; annotators; reviewers; field biologists; physicians; teachers"),
    _all("""
        Five seeds are not enough; What the [baseline|probe|median] knew all along; Learning [slowly|late|less], on purpose: {method} for {topic}; Small models, [long|patient]
        training; The tail wags the model: {topic} on rare classes; Should we trust {method}?; Forgetting what
        was never true"""),
    (
        ("Journal of Learning from Data", "J. Learn. Data", "journal"),
        ("Transactions on Representations", "Trans. Represent.", "journal"),
        ("Conference on Learning Machines", "CLM", "conference"),
        ("Workshop on Small Data", "WSD", "conference"),
    ),
)  # fmt: skip

_SCIENCE = Area(
    ("Sociology", "Economics"),
    _all("""
        peer review; research evaluation; journal rankings; gender gaps in authorship; team size; research funding;
        scientific mobility; open access; data sharing; replication; author name disambiguation; scientific careers;
        the h-index; novelty and atypical combinations; preprints; acknowledgements; megajournals; field normalization;
        altmetrics; mentorship"""),
    _all("""
        difference-in-differences; regression discontinuity; multilevel models; percentile indicators; structured interviews; a
        preregistered survey; full-text mining; bootstrapped confidence intervals; synthetic controls; fractional counting; event
        studies; instrumental variables; text-based similarity; a registry of grant decisions"""),
    _all("""
        the careers of nineteen thousand doctoral graduates; the reports of eight funding agencies; all papers from forty
        small universities; the editorial boards of six hundred journals; a census of laboratories; the first
        fifteen years of a national assessment; the acknowledgements of economics papers; the correspondence of
        two editors; repositories in twenty-two countries; applications that missed the threshold by a point"""),
    _all("""
        indicators change the behavior that they measure; rejected work leaves no trace in the record; names are shared by
        thousands of authors; disciplines differ in what counts as a paper; those who leave science are missing from its
        statistics; panels see the reputation before the proposal; a national average describes no institution; what is
        counted fractionally is rewarded in full"""),
    _all("""
        an early rejection costs two years and no citations after ten; reviewers agree about bad proposals and about
        nothing else; shared data are reused by neighbors first; small teams start topics that large teams finish; grants
        near the threshold change careers more than those far above it; the ranking of universities is decided by three
        counting choices; mentors pass on methods more often than topics; papers gain readers, but not citations, from
        the press; returning researchers bring their co-authors along; half of the gap is explained by the length of careers"""),
    _all("inter-rater agreement; the Gini coefficient; the share of women; the success rate; explained variance"),
    _all("time to acceptance; the cost of evaluation; the number of submissions"),
    _all("program officers; editors; early-career researchers; deans; reviewers; policy makers"),
    _all("""
        Reviewer two, [revisited|counted|measured]; The papers that nobody submitted; Publish, [move|wait], or perish: {topic} after the doctorate;
        A lottery with a jury: {topic} under scarcity; Who thanks whom?; What remains of a grant after [ten|fifteen|twenty] years; Counting
        is a choice: {topic} under four indicators"""),
    (
        ("Journal of Research Evaluation Practice", "J. Res. Eval. Pract.", "journal"),
        ("Quarterly of Scientometrics", "Q. Scientometr.", "journal"),
        ("Conference on the Science of Science", "CSS", "conference"),
        ("Forum on Indicators", "FI", "conference"),
    ),
)  # fmt: skip

_PEOPLE = Area(
    ("Computer Science", "Psychology"),
    _all("""
        personal knowledge bases; note taking; reading interfaces; visual analytics; interruption; remote collaboration;
        keyboard navigation; screen readers; undo; data visualization for lay readers; error messages; digital
        libraries; trust in recommendations; annotation; search by children; tagging; onboarding; dark patterns; command
        lines; collaborative writing"""),
    _all("""
        a diary study; eye tracking; contextual inquiry; participatory design; a Wizard-of-Oz prototype; sketching
        workshops; log analysis; think-aloud sessions; a field deployment; progressive disclosure; direct manipulation;
        linked views; peripheral displays; a within-subjects experiment"""),
    _all("""
        twenty-six doctoral students over a semester; the notebooks of nine field biologists; a public library in a mountain
        town; eleven newsrooms; two hundred first-year students; the support tickets of a text editor; a hospital ward at night;
        amateur historians; translators of technical manuals; eighteen people who are blind"""),
    _all("""
        people describe what they intend, not what they do; a tool that is liked in the laboratory is abandoned in a week;
        structure is asked for before there is anything to structure; interruptions are remembered only when they were
        welcome; experts have forgotten what beginners see; every reminder competes with every other; what is saved for later
        is rarely opened; accessibility is added when the design is finished"""),
    _all("""
        notes are reread for their context, not for their content; a visible history makes people braver; participants
        trusted the explanation more when it admitted a doubt; the fewer the folders, the sooner a note was found; links made by
        hand were followed four times as often; two seconds of delay changed the strategy, not the result; people who could undo
        asked fewer questions; margins are used for disagreement; novices read error messages from the end; shared screens replaced
        half of the meetings that they were supposed to prepare"""),
    _all("the share of completed tasks; recall after a week; perceived control; accuracy; the rate of return visits"),
    _all("task completion time; the error rate; perceived workload"),
    _all("students; librarians; scholars; translators; software engineers; archivists; teachers"),
    _all("""
        Saved for later, [never opened|seldom opened]; The margin as a [meeting place|workplace]: {topic} among scholars; Undo and [courage|curiosity]; A folder of one's own: how {people} keep what they read; Something went wrong: [reading|writing] error messages; Slow [tools|interfaces] for [careful|unhurried] work; Links that
        people make"""),
    (
        ("Journal of Tools for Thought", "J. Tools Thought", "journal"),
        ("Interfaces and Readers", "Interf. Read.", "journal"),
        ("Conference on Humans and Documents", "CHD", "conference"),
        ("Symposium on Everyday Computing", "SEC", "conference"),
    ),
)  # fmt: skip

AREAS = (_CITATIONS, _RETRIEVAL, _DATABASES, _LEARNING, _SCIENCE, _PEOPLE)

#: Examples of disciplines, also rare ones.
DISCIPLINES = _all("""
    acoustics; agronomy; anthropology; archaeology; astronomy; biochemistry; bioethics; biogeography; botany; cardiology; cartography;
    climatology; comparative law; crystallography; demography; dentistry; dermatology; developmental biology; ecology; econometrics;
    education; electrochemistry; endocrinology; entomology; epidemiology; ethnomusicology; evolutionary biology; film studies;
    fluid dynamics; forestry; genetics; genomics; geodesy; geology; geophysics; gerontology; glaciology; graph theory; hematology;
    herpetology; history of art; hydrology; immunology; industrial design; inorganic chemistry; international relations; limnology;
    linguistics; logistics; marine biology; materials science; medieval history; metallurgy; meteorology; microbiology; mineralogy;
    molecular biology; musicology; mycology; nanotechnology; neurology; number theory; numismatics; nursing; nutrition; oceanography;
    oncology; operations research; ophthalmology; optics; organic chemistry; ornithology; paleontology; palaeography; parasitology;
    pathology; pediatrics; pharmacology; philosophy of science; phonetics; photonics; physiology; plasma physics; political science;
    polymer chemistry; psychiatry; public health; quantum optics; radiology; robotics; seismology; social work; soil science;
    spectroscopy; sports medicine; structural engineering; surgery; thermodynamics; theology; topology; toxicology; transport
    planning; urban planning; veterinary medicine; virology; volcanology; zoology""")

FIRST_NAMES = _words("""
    Aaliyah Abebe Adaeze Aiko Alejandra Alma Amara Amit Anahit Andrei Aroha Arjun Astrid Ayşe Beatriz Bilal Björn Camille Chanel
    Chidi Clara Daniela Dariusz Delphine Dilnoza Dimitra Ebba Eleni Elif Emeka Erik Esperanza Farah Fatima Fernando Gabriela Giulia Gustavo
    Hana Haruto Héctor Hina Ibrahim Imani Ingrid Isabel Ivana Jamal Jelena Jiho João Jorge Kaito Kalina Katarzyna Kenji Kwame Lars
    Laszlo Leila Lerato Lin Lucía Mahmoud Malika Marek Mei Mehdi Milica Minh Miriam Mónika Naledi Nandini Nia Nikolai Noor Nuria
    Olga Omar Oksana Paavo Petra Priya Quynh Rafael Rania Ravi Rosa Ruslan Saoirse Sakura Samir Sanna Sigrid Sofia Soo-jin Sunita Tadeusz
    Tamar Tariq Tendai Thandiwe Tomás Tuija Uzoma Valentina Viktor Wanjiru Wei Xiu Yael Yara Yusuf Zainab Zanele Zofia Zoltán
""")
FAMILY_NAMES = _words("""
    Abara Abdullah Acheampong Adeyemi Aguilar Ahmadi Akhtar Almeida Andersen Antonescu Aoki Arslan Asante Baptista Barzani Basu Bauer Bekele
    Benali Bergström Bianchi Boateng Borges Bouchard Brkić Castillo Chatterjee Chen Cheung Choi Cohen Costa Czerny Dahl Dang Delgado Demir Desai
    Diallo Dimitrov Dlamini Doumbia Dubois Eriksen Esposito Farouk Fekete Fernandes Ferrari Fischer Flores Fofana Gallagher Ganbold Georgiou
    Ghosh Goldberg González Grigoryan Guerrero Haddad Hakimi Halvorsen Hamid Hansen Haraldsson Hashimoto Hernández Horvat Hossain Huang Hussain
    Ibragimov Igwe Ikeda Ito Ivanova Iyer Jansen Jovanović Kamara Kaneko Karimi Kask Kaya Keita Khan Kiprono Kobayashi Kowalska Kozlov Kumar
    Laaksonen Lambert Laurent Leroy Levy Lim Lindqvist Liu Lopez MacLeod Mahlangu Maldonado Mansour Marković Martins Mazur Mbeki Melnyk Mensah Mishra
    Molnár Moreau Moreno Murphy Mwangi Nakamura Namazi Navarro Ndlovu Nguyen Nielsen Novák Nowak Obi Ochieng Odhiambo Okafor Okonkwo Olsen Ortega
    Osei Otieno Öztürk Pak Papadopoulos Park Patel Pereira Petrović Pham Popescu Prasad Qureshi Rahman Ramírez Rao Rashid Reyes Ricci Rojas Rossi
    Sadik Saito Salazar Santos Sato Schneider Sharma Shevchenko Silva Singh Sithole Smirnova Soto Sousa Suzuki Svensson Szabó Takahashi Tamm
    Tanaka Tashkentov Tekle Tiwari Tkachenko Toure Traore Tran Ueda Vargas Vasquez Virtanen Vogel Volkov Wang Weber Wójcik Wongsakul Wu Yamamoto
    Yang Yilmaz Yoon Zafar Zhang Zhou Zielinski
""")

#: Beginnings and ends of the names that authors give their systems.
NAME_BEGINNINGS = _words("""
    Bib Cit Codex Corp Dew Ech Fol Gloss Graph Hyper Ind Kin Lattic Lex Lig Lin Lumin Mar Memor Nod Not Nov Pag
    Pal Path Quer Quill Rank Ref Sif Sol Stel Strat Tabul Tess Thes Trac Vell Ver Viv
""")
NAME_ENDS = _words(
    "a ara ella eon era etta ette ia ica ida iel ina ine ion ique is ium ix o ola on ora os ova um us"
)
