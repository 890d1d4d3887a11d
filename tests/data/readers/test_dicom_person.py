from __future__ import annotations

import pytest

from cfdiff.data.readers.dicom_person import names_somebody


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("Li^Wu", "LiWu1970"),
        ("Ng^Bo", "NG_BO"),
        ("Ng^Bo", "BONG-1970"),
        ("Li^Wei", "LIW1970"),
        ("王^小明", "王小明"),
        ("Wang^Xiaoming", "小明12"),
        ("García^José", "GARCIA JOSE"),
        ("Garcia^Jose", "García_7"),
        ("Müller^Jürgen", "Mueller-Juergen"),
        ("Müller^Jürgen", "muller70"),
        ("Mueller^Juergen", "MÜL70"),
        ("Strauß^Åse", "STRAUSS1"),
        ("Łukasz^Søren", "lukasz1"),
        ("Иванов^Иван", "ИВАНОВ1"),
        ("O'Brien^Al", "OBRIEN"),
        ("Smith^Jane", "SMITJA01"),
        ("", "DOE^JANE^1970"),
        ("", "Doe, Jane 1970"),
        ("", "JaneDoe"),
    ],
)
def test_an_id_that_may_name_a_person_is_known(name: str, patient: str) -> None:
    assert names_somebody(patient, name)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("Doe^Jane", "TCGA-02-0001"),
        ("Müller^Pia", "P017"),
        ("Doe^P", "P017"),
        ("Patient^12", "patient_12"),
        ("Anonymous", "anonymous"),
        ("Roe^Mary", "MR-018"),
        ("CompressedSamples^MR1", "4MR1"),
        ("Li^Wu", "LIDC-IDRI-0001"),
        ("王^小明", "1234567"),
        ("", "12.34"),
    ],
)
def test_a_code_stays_as_it_is(name: str, patient: str) -> None:
    assert not names_somebody(patient, name)
