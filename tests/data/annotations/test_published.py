"""Data sets in the files in which they were published."""

import json

import pytest

from mvit_video.data import load_annotations
from mvit_video.data.annotations import may_exist
from mvit_video.types import AnnotationError
from tests.fixtures.data import Touch, Write

KINETICS = (
    "label,youtube_id,time_start,time_end,split\n"
    "riding a bike,-3ouPhoy2A_,10,20,train\n"
    '"dancing, slowly",abc_defghij,95,105,train\n'
    "riding a bike,zzzzzzzzzzz,0,10,train\n"
)
KINETICS_LAYOUTS = [
    ["-3ouPhoy2A__000010_000020.mp4", "abc_defghij_000095_000105.mp4", "zzzzzzzzzzz_000000_000010.mkv"],
    [
        "riding a bike/-3ouPhoy2A__000010_000020.mp4",
        "dancing, slowly/abc_defghij_000095_000105.mp4",
        "riding a bike/zzzzzzzzzzz_000000_000010.mp4",
    ],
    [
        "train/riding_a_bike/-3ouPhoy2A__000010_000020.mp4",
        "train/dancing,_slowly/abc_defghij_000095_000105.mp4",
        "train/riding_a_bike/zzzzzzzzzzz_000000_000010.mp4",
    ],
    ["train/riding_a_bike/-3ouPhoy2A_.mp4", "train/dancing/abc_defghij.webm", "train/x/zzzzzzzzzzz.mp4"],
]


@pytest.mark.parametrize("files", KINETICS_LAYOUTS)
def test_kinetics_is_found_as_downloaders_lay_it_out(write: Write, touch: Touch, files: list[str]) -> None:
    table = load_annotations(write(KINETICS, "train.csv"), touch(*files, "train/notes.txt", ".cache/zzzzzzzzzzz.mp4"))
    assert table.paths.to_pylist() == files
    assert table.class_names == ("dancing, slowly", "riding a bike")
    assert table.labels.tolist() == [1, 0, 1]
    assert table.num_missing == 0


def test_kinetics_goes_on_without_the_videos_that_are_not_there(write: Write, touch: Touch) -> None:
    source, root = write(KINETICS, "train.csv"), touch(KINETICS_LAYOUTS[0][1])
    with pytest.warns(
        UserWarning, match=r"ignoring 2 of 3 videos, which are missing under .*: -3ouPhoy2A__000010_000020, zzzz"
    ):
        table = load_annotations(source, root, class_names=["riding a bike", "dancing, slowly"])
    assert table.paths.to_pylist() == [KINETICS_LAYOUTS[0][1]]
    assert table.labels.tolist() == [1]
    assert table.num_missing == 2


def test_a_class_counts_although_its_videos_are_not_there(write: Write, touch: Touch) -> None:
    with pytest.warns(UserWarning, match="2 of 3"):
        table = load_annotations(write(KINETICS, "train.csv"), touch(KINETICS_LAYOUTS[0][0]))
    assert table.class_names == ("dancing, slowly", "riding a bike")
    assert table.labels.tolist() == [1]


def test_kinetics_elsewhere_says_what_was_looked_for(write: Write, touch: Touch) -> None:
    with pytest.raises(
        AnnotationError, match=r"none of its 3 videos is under .*'-3ouPhoy2A__000010_000020'.*data\.root"
    ):
        load_annotations(write(KINETICS, "train.csv"), touch("other.mp4"))
    with pytest.raises(AnnotationError, match=r"nowhere: the folder of the videos cannot be listed .*data\.root"):
        load_annotations(write(KINETICS, "train.csv"), "nowhere")


def test_the_folder_decides_between_equal_names(write: Write, touch: Touch) -> None:
    source = write(KINETICS.splitlines()[0] + "\nriding a bike,zzzzzzzzzzz,0,10,validate\n", "val.csv")
    root = touch("train/zzzzzzzzzzz_000000_000010.mp4", "val/zzzzzzzzzzz_000000_000010.mp4")
    assert load_annotations(source, root).path(0) == "val/zzzzzzzzzzz_000000_000010.mp4"
    touch("val/copy/zzzzzzzzzzz_000000_000010.mp4")
    with pytest.raises(AnnotationError, match=r"has both 'val/copy/zzz.*' and 'val/zzz.*'; set data\.root"):
        load_annotations(source, root)


@pytest.mark.parametrize(
    "text",
    [
        "youtube_id,time_start,time_end,split\nzzzzzzzzzzz,0,10,test\n",
        "label,youtube_id,time_start,time_end,split\n,zzzzzzzzzzz,0,10,test\n",
    ],
)
def test_kinetics_without_labels_can_be_tested(write: Write, touch: Touch, text: str) -> None:
    table = load_annotations(write(text, "test.csv"), touch("zzzzzzzzzzz_000000_000010.mp4"))
    assert table.labels.tolist() == [-1]
    assert table.class_names is None


def test_kinetics_times_are_numbers(write: Write, touch: Touch) -> None:
    source = write(KINETICS + "run,yyyyyyyyyyy,ten,20,train\n", "train.csv")
    with pytest.raises(AnnotationError, match=r"train\.csv:5: time_start 'ten' is not a number of seconds"):
        load_annotations(source, touch("a.mp4"))


SOMETHING = [
    {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
    {"id": "42326", "label": "putting cup on table", "template": "Putting [something] on [something]"},
]
SOMETHING_LABELS = {"Putting something on something": "1", "Holding something": "0", "Closing something": "2"}


@pytest.mark.parametrize("labels", ["something-something-v2-labels.json", "labels.json"])
def test_something_is_numbered_by_the_labels_beside_it(write: Write, touch: Touch, labels: str) -> None:
    write(json.dumps(SOMETHING_LABELS), labels)
    root = touch("78687.webm", "42326.webm")
    table = load_annotations(write(json.dumps(SOMETHING), "validation.json"), root)
    assert table.paths.to_pylist() == ["78687.webm", "42326.webm"]
    assert table.labels.tolist() == [0, 1]
    assert table.class_names == ("Holding something", "Putting something on something", "Closing something")
    test = load_annotations(write('[{"id": "78687"}]', "test.json"), root)
    assert test.labels.tolist() == [-1]


def test_something_needs_its_labels(write: Write, touch: Touch) -> None:
    root = touch("78687.webm", "42326.webm")
    source = write(json.dumps(SOMETHING), "validation.json")
    with pytest.raises(AnnotationError, match=r"put something-something-v2-labels\.json or labels\.json beside it"):
        load_annotations(source, root)
    write('{"Holding something": 0, "Putting something": 1}', "labels.json")
    with pytest.raises(AnnotationError, match="record 2: label 'Putting something on something' is not one of the 2 "):
        load_annotations(source, root)
    source = write('[{"id": "78687", "template": 3}]', "train.json")
    with pytest.raises(AnnotationError, match='record 1: "template" must be a string, got '):
        load_annotations(source, root)


UCF_CLASSES = "1 ApplyEyeMakeup\n2 YoYo\n"


def test_ucf_counts_from_one(write: Write, touch: Touch) -> None:
    write(UCF_CLASSES, "splits/classInd.txt")
    root = touch("UCF-101/YoYo/v_YoYo_g08_c01.avi", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi")
    text = "YoYo/v_YoYo_g08_c01.avi 2\r\nApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\r\n"
    table = load_annotations(write(text, "splits/trainlist01.txt"), root)
    assert table.paths.to_pylist()[0] == "UCF-101/YoYo/v_YoYo_g08_c01.avi"
    assert table.labels.tolist() == [1, 0]
    assert table.class_names == ("ApplyEyeMakeup", "YoYo")
    test = load_annotations(write("YoYo/v_YoYo_g08_c01.avi\n", "splits/testlist01.txt"), root / "UCF-101")
    assert (test.path(0), test.label_of(0)) == ("YoYo/v_YoYo_g08_c01.avi", 1)


@pytest.mark.parametrize(
    ("classes", "text", "reason"),
    [
        (None, "YoYo/v_YoYo_g08_c01.avi 2\n", r"classInd\.txt: is missing; it names the class numbers of UCF101"),
        (UCF_CLASSES, "YoYo/v_YoYo_g08_c01.avi 1\n", r"trainlist01\.txt:1: class 1 is not 'YoYo'"),
        (
            UCF_CLASSES,
            "YoYo/v_YoYo_g08_c01.avi 2\nYoYo.avi\n",
            r"trainlist01\.txt:2: expected `Class/.*got 'YoYo\.avi'",
        ),
        (UCF_CLASSES, "Yo/v_YoYo_g08_c01.avi\n", r"trainlist01\.txt:1: label 'Yo' is not one of the 2 classes"),
        ("0 ApplyEyeMakeup\n", "YoYo/v_YoYo_g08_c01.avi 2\n", r"classInd\.txt:1: expected `1 Class`, got '0 Apply"),
    ],
)
def test_ucf_that_contradicts_itself_is_refused(
    write: Write, touch: Touch, classes: str | None, text: str, reason: str
) -> None:
    if classes is not None:
        write(classes, "classInd.txt")
    with pytest.raises(AnnotationError, match=reason):
        load_annotations(write(text, "trainlist01.txt"), touch("YoYo/v_YoYo_g08_c01.avi"))


def test_hmdb_is_gathered_from_the_files_of_its_classes(write: Write, touch: Touch) -> None:
    write("a (1)_sword_u.avi 1 \nb_sword.avi 2 \nc_sword.avi 0 \n", "splits/sword_test_split1.txt")
    write("d#_exercise.avi 1 \ne_exercise.avi 2 \n", "splits/sword_exercise_test_split1.txt")
    write("f.avi 1\n", "splits/sword_test_split2.txt")
    root = touch("sword/a (1)_sword_u.avi", "sword/b_sword.avi", "sword_exercise/d#_exercise.avi", "x/e_exercise.avi")
    train = load_annotations(root.parent / "splits" / "train_split1.txt", root)
    assert train.class_names == ("sword", "sword_exercise")
    assert train.paths.to_pylist() == ["sword/a (1)_sword_u.avi", "sword_exercise/d#_exercise.avi"]
    assert train.labels.tolist() == [0, 1]
    test = load_annotations(root.parent / "splits" / "test_split1.txt", root)
    assert test.paths.to_pylist() == ["sword/b_sword.avi", "x/e_exercise.avi"]
    assert [may_exist(root.parent / "splits" / f"train_split{i}.txt") for i in (1, 2, 3)] == [True, True, False]
    write("g.avi one\n", "splits/sword_test_split1.txt")
    with pytest.raises(AnnotationError, match=r"sword_test_split1\.txt:1: expected `video\.avi 1` .*got 'g\.avi one'"):
        load_annotations(root.parent / "splits" / "train_split1.txt", root)
    with pytest.raises(AnnotationError, match=r"train_split3\.txt: no such annotation file"):
        load_annotations(root.parent / "splits" / "train_split3.txt", root)


CHARADES = (
    "id,subject,scene,script,actions,length\n"
    '46GP8,HR43,Kitchen,"A person, cooking.",c092 11.90 21.20;c147 0.00 12.60;c092 25.00 30.00,24.83\n'
    "N11GT,0KZ7,Stairs,Nothing.,,18.33\n"
)


def test_charades_has_several_actions_per_video(write: Write, touch: Touch) -> None:
    root, source = touch("46GP8.mp4", "N11GT.mp4"), write(CHARADES, "Charades_v1_train.csv")
    table = load_annotations(source, root)
    assert [table.label_of(0), table.label_of(1)] == [[92, 147], []]
    assert (table.num_classes, table.is_multilabel) == (157, True)
    write("".join(f"c{i:03d} Action {i}\n" for i in range(157)), "Charades_v1_classes.txt")
    table = load_annotations(source, root)
    assert table.class_names is not None
    assert table.class_names[92] == "Action 92"
    assert table.label_of(0) == [92, 147]


@pytest.mark.parametrize("action", ["c157 0.00 1.00", "c1 0.00 1.00", "c000"])
def test_charades_knows_its_actions(write: Write, touch: Touch, action: str) -> None:
    text = CHARADES.replace("c147 0.00 12.60", action)
    with pytest.raises(AnnotationError, match=rf"charades\.csv:2: action '{action}' is n"):
        load_annotations(write(text, "charades.csv"), touch("46GP8.mp4"))
