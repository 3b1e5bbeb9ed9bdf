/* What the smoothing of INT8 is found with: ladder.c. Sentences and not words, because it is in
 * sentences that the channels of a model's activations reach their largest values; questions,
 * statements, lists, code, numbers and names, since those are what people search in. */
#include "model/sample.h"

const char *const moult_calibration_texts[] = {
    "The committee will meet on Thursday to decide whether the old bridge can be repaired.",
    "How do I reset the password of an account that I can no longer sign in to?",
    "Add the flour slowly, stir until the dough is smooth, and let it rest for an hour.",
    "In 1869 the railway reached the coast, and the price of wheat fell by a third.",
    "She laughed, closed the book, and said that she had known the ending all along.",
    "Patients who were given the drug slept 42 minutes longer than those in the control group.",
    "for (int i = 0; i < count; i++) total += prices[i] * amounts[i];",
    "Error 504: the server did not answer in time. Try again later, or ask your administrator.",
    "Cheap flights from Oslo to Lisbon in May, one suitcase, no stopover",
    "A binary tree is balanced when the depths of the two subtrees of every node differ by at "
    "most one.",
    "The goalkeeper saved a penalty in the last minute, and the match ended 2:2.",
    "What is the difference between a lease and a licence under English law?",
    "Light travels about 300,000 kilometres in a second; sound needs fifteen minutes for as many "
    "metres.",
    "Dear Ms. Alvarez, thank you for your order #20441. It will be delivered on Monday.",
    "best noise cancelling headphones under 200",
    "No.",
    "Rain is expected in the north, with gusts of up to 90 km/h along the coast tonight.",
    "The cat sat on the windowsill and watched the snow fall on the empty street.",
    "Our quarterly revenue grew by 12.5%, to $3.4 million, mostly because of new subscriptions.",
    "Install the package, edit /etc/app/config.yaml, and restart the service.",
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen.",
    "He was born in Kyoto, studied physics in Zurich, and died in Boston at the age of 81.",
    "Ich habe den Schlüssel auf dem Küchentisch liegen lassen; kannst du ihn mitbringen?",
    "Die Stadt will bis 2030 alle Busse auf Strom umstellen.",
    "Le musée est fermé le mardi, sauf pendant les vacances scolaires.",
    "¿Cuánto cuesta enviar un paquete de dos kilos a Argentina?",
    "La biblioteca abre a las nueve y cierra cuando se va el último lector.",
    "Il treno per Bologna parte dal binario sette con venti minuti di ritardo.",
    "O preço do café subiu depois da seca no sul do país.",
    "De dijken zijn na de storm van vorig jaar verhoogd.",
    "Wczoraj wieczorem w całym mieście zabrakło prądu.",
    "Библиотека открыта каждый день, кроме понедельника.",
    "明日の会議は午後三時に始まります。",
    "这本书介绍了中国古代的建筑和园林。",
    "오늘은 날씨가 맑아서 산에 가기 좋습니다.",
    "سيصل القطار إلى المحطة في الساعة الثامنة صباحا.",
    "बारिश के कारण मैच एक घंटे देर से शुरू हुआ।",
    "Sabah erkenden kalkıp pazara gittik ve taze ekmek aldık.",
    "Bản đồ này cho thấy các con sông lớn ở miền Nam.",
    "Το πλοίο για την Κρήτη φεύγει στις εννέα το βράδυ.",
};

const uint32_t moult_calibration_count =
    sizeof moult_calibration_texts / sizeof *moult_calibration_texts;
